from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from nextn.errors import FileFormatError, SourceError
from nextn.files.imatrix import ImportanceMatrix, InputSquares, read_imatrix, write_imatrix
from tests.support.gguf_bytes import U32, GgufBytes, array_entry, number, tensor_entry, text_entry


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


def test_texts_need_no_names(tmp_path: Path) -> None:
    write_imatrix(replace(example(tmp_path / "a.gguf"), datasets=[]))
    assert read_imatrix(tmp_path / "a.gguf").datasets == []


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
        ({"w.in_sum2": np.full(8, np.inf), "w.counts": np.ones(1)}, "negative or not finite"),
        ({"w.in_sum2": np.ones(8), "w.counts": -np.ones(1)}, "negative or not finite"),
        ({"w.weight": np.ones(8)}, "none is called"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path, tensors: dict[str, np.ndarray], message: str
) -> None:
    write_with_gguf(tmp_path / "a.gguf", tensors)
    with pytest.raises(FileFormatError, match=message):
        read_imatrix(tmp_path / "a.gguf")


def test_a_value_far_behind_is_found(tmp_path: Path) -> None:
    sums = np.ones((3, 1 << 19), np.float32)
    sums[2, -1] = np.nan
    write_with_gguf(tmp_path / "a.gguf", {"w.in_sum2": sums, "w.counts": np.ones(3)})
    with pytest.raises(FileFormatError, match="negative or not finite"):
        read_imatrix(tmp_path / "a.gguf")


@pytest.mark.parametrize("changed", ["in_sum2", "counts"])
def test_values_in_another_format_are_refused(tmp_path: Path, changed: str) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "none")
    writer.add_string("general.type", "imatrix")
    for name in ("in_sum2", "counts"):
        kind = np.float16 if name == changed else np.float32
        writer.add_tensor(f"w.{name}", np.ones((1, 1), kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(FileFormatError, match=rf"w\.{changed}: .*F16, but must be F32"):
        read_imatrix(tmp_path / "a.gguf")


def test_a_sparse_file_of_any_size_is_refused_at_once(tmp_path: Path) -> None:
    rows, columns = 1 << 20, 1 << 20
    content = GgufBytes(
        metadata=[text_entry("general.type", "imatrix")],
        tensors=[
            tensor_entry("w.in_sum2", [columns, rows], 0, 0),
            tensor_entry("w.counts", [1, rows], 0, 4 * rows * columns),
        ],
    ).build()
    with (tmp_path / "a.gguf").open("wb") as file:
        file.write(content)
        file.truncate(len(content) + 64 + 4 * rows * (columns + 1))
    with pytest.raises(FileFormatError, match="larger than 8 GiB"):
        read_imatrix(tmp_path / "a.gguf")


@pytest.mark.parametrize("names", [["a"] * 1025, ["a" * 70_000], ["a" * 700] * 100])
def test_endless_names_of_texts_are_refused(tmp_path: Path, names: list[str]) -> None:
    write_imatrix(replace(example(tmp_path / "a.gguf"), datasets=names))
    with pytest.raises(FileFormatError, match="datasets: is longer"):
        read_imatrix(tmp_path / "a.gguf")


@pytest.mark.parametrize("count", [-1, 1 << 32])
def test_impossible_counts_are_refused(tmp_path: Path, count: int) -> None:
    write_imatrix(replace(example(tmp_path / "a.gguf"), chunk_count=count))
    with pytest.raises(FileFormatError, match="chunk_count: is not a count"):
        read_imatrix(tmp_path / "a.gguf")


def test_other_files_are_refused(tmp_path: Path) -> None:
    write_with_gguf(tmp_path / "model.gguf", {"w.weight": np.ones(8)}, kind="model")
    with pytest.raises(FileFormatError, match="another kind of file"):
        read_imatrix(tmp_path / "model.gguf")
    numbers = array_entry("general.type", U32, [number(U32, 1), number(U32, 2)])
    (tmp_path / "list.gguf").write_bytes(GgufBytes(metadata=[numbers]).build())
    with pytest.raises(FileFormatError, match="another kind of file"):
        read_imatrix(tmp_path / "list.gguf")
    (tmp_path / "old.dat").write_bytes(b"\x02\x00\x00\x00\x05\x00\x00\x00")
    with pytest.raises(FileFormatError, match="older form"):
        read_imatrix(tmp_path / "old.dat")
    with pytest.raises(SourceError):
        read_imatrix(tmp_path / "absent.gguf")
