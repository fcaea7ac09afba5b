from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from nextn.errors import FileFormatError, SourceError
from nextn.files.imatrix import ImportanceMatrix, InputSquares, read_imatrix, write_imatrix


def example(path: Path) -> ImportanceMatrix:
    rng = np.random.default_rng(0)
    dense = InputSquares(rng.random((1, 64), np.float32), np.array([512], np.float32))
    experts = InputSquares(rng.random((3, 32), np.float32), np.array([10, 0, 7], np.float32))
    entries = {"blk.0.ffn_up.weight": dense, "blk.0.ffn_up_exps.weight": experts}
    return ImportanceMatrix(path, entries, ["wiki.txt", "chat.txt"], 4, 512)


def write_with_gguf(path: Path, tensors: dict[str, np.ndarray], kind: str = "imatrix") -> None:
    writer = GGUFWriter(path, "none")
    writer.add_string("general.type", kind)
    for name, values in tensors.items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written = example(tmp_path / "a.gguf")
    write_imatrix(written)
    found = read_imatrix(tmp_path / "a.gguf")
    assert (found.datasets, found.chunk_count, found.chunk_size) == (written.datasets, 4, 512)
    assert found.entries.keys() == written.entries.keys()
    for name, entry in found.entries.items():
        np.testing.assert_array_equal(entry.sums, written.entries[name].sums)
        np.testing.assert_array_equal(entry.counts, written.entries[name].counts)


def test_the_form_is_that_of_llama_cpp(tmp_path: Path) -> None:
    write_imatrix(example(tmp_path / "a.gguf"))
    reader = GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.datasets"].contents() == ["wiki.txt", "chat.txt"]
    assert reader.fields["imatrix.chunk_count"].types[0].name == "UINT32"
    shapes = {tensor.name: tensor.shape.tolist() for tensor in reader.tensors}
    assert shapes == {  # the fastest dimension first
        "blk.0.ffn_up.weight.in_sum2": [64, 1],
        "blk.0.ffn_up.weight.counts": [1, 1],
        "blk.0.ffn_up_exps.weight.in_sum2": [32, 3],
        "blk.0.ffn_up_exps.weight.counts": [1, 3],
    }


def test_means_are_of_each_matrix_by_itself(tmp_path: Path) -> None:
    entry = example(tmp_path / "a.gguf").entries["blk.0.ffn_up_exps.weight"]
    mean = entry.mean(2)
    assert mean is not None
    np.testing.assert_allclose(mean, entry.sums[2] / 7, rtol=1e-6)
    assert entry.mean(1) is None


def test_dimensions_of_one_may_be_left_out(tmp_path: Path) -> None:
    write_with_gguf(
        tmp_path / "a.gguf", {"w.weight.in_sum2": np.ones(8), "w.weight.counts": np.array([4.0])}
    )
    assert read_imatrix(tmp_path / "a.gguf").entries["w.weight"].sums.shape == (1, 8)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w.in_sum2": np.ones(8)}, r"w\.counts: is missing"),
        ({"w.in_sum2": np.full(8, np.nan), "w.counts": np.ones(1)}, "negative or not finite"),
        ({"w.in_sum2": -np.ones(8), "w.counts": np.ones(1)}, "negative or not finite"),
        ({"w.in_sum2": np.ones((2, 8)), "w.counts": np.ones(3)}, "3 values for 2 matrices"),
        ({"w.weight": np.ones(8)}, "none is called"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    write_with_gguf(tmp_path / "a.gguf", tensors)
    with pytest.raises(FileFormatError, match=message):
        read_imatrix(tmp_path / "a.gguf")


def test_other_files_are_refused(tmp_path: Path) -> None:
    write_with_gguf(tmp_path / "model.gguf", {"w.weight": np.ones(8)}, kind="model")
    with pytest.raises(FileFormatError, match="another kind of file"):
        read_imatrix(tmp_path / "model.gguf")
    (tmp_path / "old.dat").write_bytes(b"\x02\x00\x00\x00\x05\x00\x00\x00")
    with pytest.raises(FileFormatError, match="older form"):
        read_imatrix(tmp_path / "old.dat")
    with pytest.raises(SourceError):
        read_imatrix(tmp_path / "absent.gguf")
