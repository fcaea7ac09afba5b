from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from nextn.files import I32, open_checkpoint
from nextn.files.block_encoding import F32, Q8_0, encode_f32, encode_q8_0
from nextn.files.gguf.writer import TensorBytes, write_gguf

METADATA = {
    "general.architecture": "llama",
    "a.string": "Grüße",
    "an.integer": 7,
    "a.large_integer": 1 << 40,
    "a.number": 0.5,
    "a.truth": True,
}


def tensors() -> dict[str, TensorBytes]:
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((3, 64)).astype(np.float32)
    ids = np.array([1, 5, 7], "<i4")
    return {
        "matrix": TensorBytes(matrix.shape, Q8_0, encode_q8_0(matrix)),
        "vector": TensorBytes((5,), F32, encode_f32(matrix[0, :5])),
        "ids": TensorBytes(ids.shape, I32, ids.view(np.uint8)),
    }


def test_nextn_reads_what_it_wrote(tmp_path: Path) -> None:
    written = tensors()
    write_gguf(tmp_path / "a.gguf", METADATA, written)
    with open_checkpoint(tmp_path / "a.gguf") as checkpoint:
        assert dict(checkpoint.metadata) == METADATA
        assert list(checkpoint.tensors) == list(written)
        for name, tensor in written.items():
            found = checkpoint.tensors[name]
            assert (found.shape, found.block_type) == (tensor.shape, tensor.block_type)
            assert found.data.tobytes() == tensor.data.tobytes()
        assert checkpoint.tensors["ids"].integers().tolist() == [1, 5, 7]


def test_the_gguf_package_reads_it_too(tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", METADATA, tensors())
    reader = GGUFReader(tmp_path / "a.gguf")
    for key, value in METADATA.items():
        assert reader.get_field(key).contents() == value
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert list(found["matrix"].shape) == [64, 3]
    assert found["ids"].data.tolist() == [1, 5, 7]


def test_a_file_that_cannot_be_written_leaves_nothing_and_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_gguf(path, METADATA, tensors())
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.gguf", b"old")]
