"""Fuzz target: whatever file opens is copied, and its head taken out and put in again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from fuzz.instrument import instrumented

with instrumented("nextn"):
    from nextn.files import Checkpoint, open_checkpoint
    from nextn.files.gguf.writer import TensorCopy, write_gguf
    from nextn.tools.attach import attach_head
    from nextn.tools.detach import detach_head
    from nextn.tools.extract import extract_head

from fuzz.gguf_mutator import mutate
from fuzz.harness import WrongResultError, start

_FOLDER = Path(tempfile.mkdtemp(prefix="nextn-fuzz-"))
_SPLIT = ("split.no", "split.count", "split.tensors.count")


def _copy(source: Checkpoint, path: Path) -> None:
    copies = {name: TensorCopy.of(tensor) for name, tensor in source.tensors.items()}
    write_gguf(path, source.encoded_metadata, copies)


def _check_same(one: Checkpoint, other: Checkpoint) -> None:
    keys = {k: bytes(v.data) for k, v in one.encoded_metadata.items() if k not in _SPLIT}
    if list(keys.items()) != [(k, bytes(v.data)) for k, v in other.encoded_metadata.items()]:
        raise WrongResultError("other metadata in a copy")
    if list(one.tensors) != list(other.tensors):
        raise WrongResultError("other tensors in a copy")
    for name, tensor in one.tensors.items():
        copy = other.tensors[name]
        if (tensor.shape, tensor.block_type) != (copy.shape, copy.block_type):
            raise WrongResultError("a tensor of another shape or format in a copy")
        if tensor.data.tobytes() != copy.data.tobytes():
            raise WrongResultError("other bytes in a copy")


def test_one_input(content: bytes) -> None:
    """Copy a file, and move its head."""
    model, copy, second, plain, head, again, last = (
        _FOLDER / f"{name}.gguf"
        for name in ("model", "copy", "second", "plain", "head", "again", "last")
    )
    # New files each time: the mappings of the last ones may still be alive.
    for path in _FOLDER.iterdir():
        path.unlink()
    model.write_bytes(content)
    with open_checkpoint(model, to_copy=True) as source:
        _copy(source, copy)
        with open_checkpoint(copy, to_copy=True) as copied:
            _check_same(source, copied)
            _copy(copied, second)
    if copy.read_bytes() != second.read_bytes():
        raise WrongResultError("the copy of a copy is another file")
    extract_head(model, head)
    detach_head(model, plain)
    attach_head(plain, head, again, force=True)
    extract_head(again, last)
    if head.read_bytes() != last.read_bytes():
        raise WrongResultError("a head that was attached and extracted is another file")


if __name__ == "__main__":
    # Thousands of small files a second need not outlast a failure of power.
    os.fsync = lambda _descriptor: None
    start(test_one_input, mutate)
