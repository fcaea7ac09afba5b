"""Writing that breaks off, by a full disk or Ctrl-C, leaves nothing and changes nothing."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nextn.files.gguf.writer import part_paths
from nextn.tools.attach import attach_beside, attach_head
from nextn.tools.detach import detach_head
from nextn.tools.extract import extract_head
from tests.support.tiny_families import write_tiny_qwen35

Tool = Callable[..., object]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model, the same without a head, that head, a model in parts, and an older output."""
    write_tiny_qwen35(tmp_path / "model.gguf")
    detach_head(tmp_path / "model.gguf", tmp_path / "plain.gguf")
    extract_head(tmp_path / "model.gguf", tmp_path / "head.gguf")
    write_tiny_qwen35(tmp_path / "parts.gguf", tensors_per_part=20)
    (tmp_path / "out.gguf").write_bytes(b"an older file")
    for path in part_paths(tmp_path / "out.gguf", 4):
        path.write_bytes(b"an older part")
    return tmp_path


TOOLS: dict[str, Callable[[Path, Callable[..., None] | None], object]] = {
    "extract": lambda folder, told: extract_head(
        folder / "model.gguf", folder / "out.gguf", progress=told
    ),
    "attach": lambda folder, told: attach_head(
        folder / "plain.gguf", folder / "head.gguf", folder / "out.gguf", progress=told
    ),
    "beside": lambda folder, told: attach_beside(
        folder / "plain.gguf", folder / "head.gguf", progress=told
    ),
    "detach": lambda folder, told: detach_head(
        folder / "model.gguf", folder / "out.gguf", progress=told
    ),
    "parts": lambda folder, told: detach_head(
        folder / "parts-00001-of-00004.gguf", folder / "out.gguf", progress=told
    ),
}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("when", [0, 0.5, 1])
def test_ctrl_c_leaves_everything_as_it_was(folder: Path, name: str, when: float) -> None:
    before = files(folder)

    def interrupt(_activity: str, done: int, total: int) -> None:
        if done >= when * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TOOLS[name](folder, interrupt)
    assert files(folder) == before


@pytest.mark.parametrize("name", TOOLS)
def test_a_disk_that_fills_up_leaves_everything_as_it_was(folder: Path, name: str) -> None:
    # A limit of the size of files is met like a full disk: a write fails in the middle.
    before = files(folder)
    old, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
        with pytest.raises(OSError, match="File too large"):
            TOOLS[name](folder, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (old, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert files(folder) == before


def test_ctrl_c_on_the_command_line_leaves_nothing(folder: Path) -> None:
    # A model with so large a hole that its copy, without holes, takes long enough to be met.
    before = files(folder)
    script = (
        "import os, sys, nextn.files.copying as copying\n"
        "del os.copy_file_range, os.SEEK_DATA\n"
        "copying._BUFFER_BYTES = 1 << 12\n"
        "from nextn.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    large = folder / "large.gguf"
    _with_a_large_tensor(folder / "plain.gguf", large)
    command = [sys.executable, "-c", script, "mtp", "attach", str(large)]
    process = subprocess.Popen(
        [*command, str(folder / "head.gguf"), "-o", str(folder / "out.gguf"), "-q"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NEXTN_CACHE": str(folder)},
    )
    partial = folder / f".out.gguf.{process.pid}.part"
    end = time.monotonic() + 20
    while not partial.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    assert partial.exists(), process.communicate()[1]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    large.unlink()
    assert files(folder) == before


def _with_a_large_tensor(path: Path, output: Path) -> None:
    from nextn.files import open_checkpoint
    from nextn.files.block_encoding import F32
    from nextn.files.gguf.writer import NewTensor, TensorCopy, write_gguf

    hole = output.with_suffix(".hole")
    with hole.open("wb") as file:
        file.truncate(1 << 30)
    with open_checkpoint(path) as source:
        tensors: dict[str, NewTensor] = {
            "large.weight": TensorCopy((1 << 28,), F32, hole, 0),
            **{name: TensorCopy.of(tensor) for name, tensor in source.tensors.items()},
        }
        write_gguf(output, source.encoded_metadata, tensors)
    hole.unlink()
