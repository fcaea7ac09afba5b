from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter

from nextn.errors import OutputError, UnsupportedModelError
from nextn.files import I32, Checkpoint, open_checkpoint
from nextn.files.block_encoding import F32, Q8_0, encode
from nextn.files.gguf.writer import (
    NewTensor,
    TensorBytes,
    TensorCopy,
    TensorPieces,
    part_paths,
    parts_by_size,
    write_gguf,
)
from tests.support.gguf_bytes import ARRAY, U16, U32, U64, number
from tests.support.tiny_gguf import write_tiny_model

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
        "matrix": TensorBytes(matrix.shape, Q8_0, encode(Q8_0, matrix)),
        "vector": TensorBytes((5,), F32, encode(F32, matrix[0, :5])),
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


def copies(checkpoint: Checkpoint) -> dict[str, NewTensor]:
    return {name: TensorCopy.of(tensor) for name, tensor in checkpoint.tensors.items()}


def write_with_gguf(path: Path, alignment: int) -> None:
    """A file of the `gguf` package with a key of every type."""
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    for kind in GGUFValueType:
        if kind not in (GGUFValueType.ARRAY, GGUFValueType.STRING):
            value = True if kind == GGUFValueType.BOOL else 3
            writer.add_key_value(f"scalar.{kind.name}", value, kind)
    writer.add_string("text", "Grüße")
    for kind in (GGUFValueType.UINT8, GGUFValueType.INT64, GGUFValueType.FLOAT64):
        writer.add_key_value(f"list.{kind.name}", [1, 2], GGUFValueType.ARRAY, kind)
    writer.add_array("list.truth", [True, False])
    writer.add_array("list.text", ["a", "", "ü"])
    for name, values in {"long": np.arange(50.0), "short": np.ones(1), "last": np.ones(3)}.items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("alignment", [8, 32, 256])
def test_a_copy_of_a_file_is_the_same_file(tmp_path: Path, alignment: int) -> None:
    write_with_gguf(tmp_path / "a.gguf", alignment)
    with open_checkpoint(tmp_path / "a.gguf") as source:
        write_gguf(tmp_path / "b.gguf", source.encoded_metadata, copies(source))
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()


def test_arrays_that_were_read_keep_their_types(tmp_path: Path) -> None:
    write_with_gguf(tmp_path / "a.gguf", 32)
    with open_checkpoint(tmp_path / "a.gguf") as source:
        lists = [key for key in source.metadata if key.startswith("list")]
        write_gguf(tmp_path / "b.gguf", {key: source.metadata[key] for key in lists}, {})
    before, after = GGUFReader(tmp_path / "a.gguf"), GGUFReader(tmp_path / "b.gguf")
    assert len(lists) == 5
    for key in lists:
        assert after.fields[key].types == before.fields[key].types
        assert after.fields[key].contents() == before.fields[key].contents()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (5, "UINT32"),
        (-5, "INT32"),
        (1 << 32, "UINT64"),
        (-(1 << 40), "INT64"),
        (0.5, "FLOAT32"),
        (True, "BOOL"),
        (np.bool_(False), "BOOL"),
        (np.uint8(5), "UINT8"),
        (np.int8(-5), "INT8"),
        (np.uint16(5), "UINT16"),
        (np.int16(-5), "INT16"),
        (np.int64(5), "INT64"),
        (np.float64(1 / 3), "FLOAT64"),
        ("text", "STRING"),
        (["a", "ü"], "STRING"),
        ([1, -2], "INT32"),
        ([1, 1 << 33], "INT64"),
        ([0.5, 1.5], "FLOAT32"),
        ([True, False], "BOOL"),
        (np.array([1, 2], np.uint16), "UINT16"),
        (np.array([1.5], ">f8"), "FLOAT64"),
    ],
    ids=repr,
)
def test_new_values_have_the_type_that_is_promised(
    tmp_path: Path, value: object, kind: str
) -> None:
    write_gguf(tmp_path / "a.gguf", {"general.architecture": "llama", "key": value}, {})
    field = GGUFReader(tmp_path / "a.gguf").fields["key"]
    is_list = isinstance(value, list | np.ndarray)
    assert [one.name for one in field.types] == (["ARRAY"] if is_list else []) + [kind]
    contents = field.contents()
    assert contents == (list(value) if is_list else value)


def test_an_empty_array_keeps_its_type(tmp_path: Path) -> None:
    # The `gguf` package does not say the type of one, so its bytes are compared.
    keys = {"general.architecture": "llama", "key": np.array([], np.uint16)}
    write_gguf(tmp_path / "a.gguf", keys, {})
    with open_checkpoint(tmp_path / "a.gguf") as checkpoint:
        expected = number(U32, ARRAY) + number(U32, U16) + number(U64, 0)
        assert bytes(checkpoint.encoded_metadata["key"].data) == expected


@pytest.mark.parametrize("value", [1 << 64, [], [1, "a"], np.zeros((2, 2)), np.complex64(1)])
def test_values_that_gguf_does_not_have_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match=r"\[gguf\]"):
        write_gguf(tmp_path / "a.gguf", {"key": value}, {})
    assert not list(tmp_path.iterdir())


def test_pieces_of_any_kind_make_a_tensor(tmp_path: Path) -> None:
    data = np.arange(4096, dtype=np.uint8)

    def pieces() -> list[object]:
        return [data[:1000], bytes(data[1000:1001]), memoryview(data[1001:2048]), data[:0]]

    last = {"later": TensorBytes((4,), F32, encode(F32, np.ones(4, np.float32)))}
    write_gguf(tmp_path / "a.gguf", METADATA, {"a": TensorPieces((512,), F32, pieces), **last})
    with open_checkpoint(tmp_path / "a.gguf") as checkpoint:
        assert checkpoint.tensors["a"].data.tobytes() == data[:2048].tobytes()
        assert checkpoint.tensors["later"].decode().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("size", [2047, 2049])
def test_pieces_of_another_size_are_refused(tmp_path: Path, size: int) -> None:
    tensor = TensorPieces((512,), F32, lambda: [bytes(size)])
    with pytest.raises(ValueError, match=f"a: {size} bytes were given, not 2048"):
        write_gguf(tmp_path / "a.gguf", METADATA, {"a": tensor})
    assert not list(tmp_path.iterdir())


def test_a_model_in_parts_is_read_as_one(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "whole.gguf", "llama")
    told: list[tuple[str, int, int | None]] = []
    with open_checkpoint(tmp_path / "whole.gguf") as source:
        tensors = copies(source)
        counts = parts_by_size(tensors.values(), 40_000)
        written = write_gguf(
            tmp_path / "new.gguf",
            source.encoded_metadata,
            tensors,
            parts=counts,
            progress=lambda *each: told.append(each),
        )
        assert len(counts) > 2
        assert written == part_paths(tmp_path / "new.gguf", len(counts))
        assert written[0].name == f"new-00001-of-{len(counts):05d}.gguf"
        with open_checkpoint(written[0]) as parts:
            assert list(parts.tensors) == list(source.tensors)
            for name, tensor in source.tensors.items():
                assert parts.tensors[name].data.tobytes() == tensor.data.tobytes()
            assert dict(source.encoded_metadata).items() <= dict(parts.encoded_metadata).items()
            # Back into one file, the keys that are about the parts are gone.
            write_gguf(tmp_path / "again.gguf", parts.encoded_metadata, copies(parts))
        total = sum(tensor.nbytes for tensor in source.tensors.values())
    for index, path in enumerate(written):
        reader = GGUFReader(path)
        assert reader.fields["split.no"].contents() == index
        assert [kind.name for kind in reader.fields["split.count"].types] == ["UINT16"]
        assert [kind.name for kind in reader.fields["split.tensors.count"].types] == ["INT32"]
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()
    assert told[0] == ("writing new.gguf", 0, total)
    assert told[-1] == ("writing new.gguf", total, total)


def test_an_alignment_holds_for_all_parts(tmp_path: Path) -> None:
    write_with_gguf(tmp_path / "a.gguf", 256)
    with open_checkpoint(tmp_path / "a.gguf") as source:
        first, *_ = write_gguf(
            tmp_path / "b.gguf", source.encoded_metadata, copies(source), parts=[1, 2]
        )
        with open_checkpoint(first) as parts:
            for name, tensor in source.tensors.items():
                assert parts.tensors[name].data.tobytes() == tensor.data.tobytes()
                assert parts.tensors[name].offset % 256 == 0


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "a.gguf", "llama")
    before = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "link.gguf").symlink_to("a.gguf")
    with open_checkpoint(tmp_path / "a.gguf") as source:
        for name in ("a.gguf", "link.gguf"):
            with pytest.raises(OutputError, match=f"{name}: is one of the inputs"):
                write_gguf(tmp_path / name, METADATA, copies(source))
            with pytest.raises(OutputError, match=f"{name}: is one of the inputs"):
                write_gguf(tmp_path / name, METADATA, tensors(), inputs=[source.path])
    assert (tmp_path / "a.gguf").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        f_bavail = 2
        f_frsize = 512

    monkeypatch.setattr("os.statvfs", lambda _: Full)
    tensor = TensorPieces((512,), F32, lambda: pytest.fail("a tensor was made"))
    with pytest.raises(OutputError, match=r"a\.gguf: needs .* GB, but .* has only 0\.00 GB left"):
        write_gguf(tmp_path / "a.gguf", METADATA, {"a": tensor})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [("n" * 64, (1,), "1 to 63 bytes"), ("", (1,), "1 to 63"), ("a", (1,) * 5, "5 dimensions")],
)
def test_tensors_that_gguf_does_not_allow_are_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...], reason: str
) -> None:
    tensor = TensorBytes(shape, F32, np.zeros(4, np.uint8))
    with pytest.raises(OutputError, match=reason):
        write_gguf(tmp_path / "a.gguf", METADATA, {name: tensor})


@pytest.mark.parametrize("value", [0, 4, 48, 1 << 21, np.uint64(32), "32", -8])
def test_an_alignment_that_no_reader_takes_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(OutputError, match=r"general\.alignment: cannot be"):
        write_gguf(tmp_path / "a.gguf", {"general.alignment": value}, {})


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .* does not exist"):
        write_gguf(tmp_path / "none" / "a.gguf", METADATA, {})
    with pytest.raises(OutputError, match="is a folder"):
        write_gguf(tmp_path, METADATA, {})


def test_tensors_in_formats_that_nextn_cannot_read_are_copied(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    blocks = np.arange(2 * 98, dtype=np.uint8).reshape(2, 98)
    writer.add_tensor("a", blocks, raw_dtype=GGMLQuantizationType.IQ3_XXS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModelError, match="block format 18 is not supported"):
        open_checkpoint(tmp_path / "a.gguf")
    with open_checkpoint(tmp_path / "a.gguf", to_copy=True) as source:
        assert source.tensors["a"].shape == (2, 256)
        for read in (source.tensors["a"].decode, source.tensors["a"].check_finite):
            with pytest.raises(UnsupportedModelError, match=r"copies tensors in .* IQ3_XXS, but"):
                read()
        write_gguf(tmp_path / "b.gguf", source.encoded_metadata, copies(source))
    assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()
