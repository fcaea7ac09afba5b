"""Crafted safetensors files and indices: each breaks one rule, and is refused by its field."""

from __future__ import annotations

import json
import os
import resource
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import FileFormatError, NextnError, SourceError, UnsupportedModelError
from nextn.files.safetensors import open_safetensors
from nextn.tools.convert import convert
from tests.support.safetensors_bytes import entry, file_bytes, write_folder, write_safetensors
from tests.support.tiny_checkpoints import tiny_state, write_tiny_checkpoint

HUGE = 2**63 - 1
ONE = np.ones((2, 2), np.float32)


def one(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8), name: str = "a") -> Any:
    return {name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def two(begin: int, end: int) -> Any:
    return {"a": entry("F32", [2], 0, 8), "b": entry("U8", [end - begin], begin, end)}


EIGHT = bytes(8)
# What is wrong -> the bytes, the field that the error names, words of the reason.
FILES: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "header length", "empty"),
    "seven bytes": (bytes(7), "header length", "truncated"),
    "header longer than the file": (file_bytes(b"{}", b"", 3), "header length", "truncated"),
    "header length wraps": (file_bytes(b"{}", b"", 2**64 - 1), "header length", "truncated"),
    "header length is negative": (file_bytes(b"{}", b"", 2**63), "header length", "truncated"),
    "a GGUF file": (b"GGUF" + bytes(100), "header length", "not a safetensors file"),
    "header of nothing": (file_bytes(b"", b""), "header", "not a safetensors file"),
    "header is a list": (file_bytes(b"[]", b""), "header", "not a safetensors file"),
    "space before the header": (file_bytes(b" {}", b""), "header", "not a safetensors file"),
    "header is no JSON": (file_bytes(b"{'a': 1}", b""), "header", "not valid JSON"),
    "header is cut off": (file_bytes(b'{"a": ', b""), "header", "not valid JSON"),
    "header is not UTF-8": (file_bytes(b'{"\xff": 1}', b""), "header", "UTF-8"),
    "header is nested": (file_bytes(b'{"a":' + b"[" * 200_000, b""), "header", "too deeply"),
    "number of a million digits": (
        file_bytes(b'{"a":' + b"1" * 1_000_000 + b"}", b""),
        "header",
        "too many digits",
    ),
    "a name twice": (
        file_bytes(b'{"a":' + json.dumps(one()["a"]).encode() + b',"a":{}}', EIGHT),
        "header",
        "'a' occurs twice",
    ),
    "metadata twice": (
        file_bytes(b'{"__metadata__":{},"__metadata__":{}}', b""),
        "header",
        "occurs twice",
    ),
    "metadata of numbers": (file_bytes({"__metadata__": {"a": 1}}, b""), "__metadata__", "strings"),
    "metadata is a list": (file_bytes({"__metadata__": []}, b""), "__metadata__", "strings"),
    "empty name": (file_bytes(one(name=""), EIGHT), "header", "is empty"),
    "name with control characters": (
        file_bytes(one(name="a\x1b[2J"), EIGHT),
        "header",
        "cannot be printed",
    ),
    "name of 600 bytes": (file_bytes(one(name="n" * 600), EIGHT), "header", "512 bytes"),
    "entry is a number": (file_bytes({"a": 1}, EIGHT), "tensor a", "not an object"),
    "entry without a shape": (
        file_bytes({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, EIGHT),
        "tensor a",
        "not an object with",
    ),
    "dtype is a number": (file_bytes(one(dtype=1), EIGHT), "tensor a", "dtype is not a string"),
    "shape is a number": (file_bytes(one(shape=2), EIGHT), "tensor a", "shape is not a list"),
    "shape of text": (file_bytes(one(shape=["2"]), EIGHT), "tensor a", "shape is not a list"),
    "shape of truth values": (file_bytes(one(shape=[True, 2]), EIGHT), "tensor a", "shape"),
    "shape of fractions": (file_bytes(one(shape=[2.0]), EIGHT), "tensor a", "shape"),
    "negative size": (file_bytes(one(shape=[-2, -1]), EIGHT), "tensor a", "shape"),
    "nine dimensions": (file_bytes(one(shape=[1] * 8 + [2]), EIGHT), "tensor a", "at most 8"),
    "size beyond 64 bits": (file_bytes(one(shape=[2**64 + 2]), EIGHT), "tensor a", "shape"),
    "elements wrap around": (
        file_bytes(one(shape=[2**32, 2**32 + 1], dtype="U8"), EIGHT),
        "tensor a",
        "impossible shape",
    ),
    "bytes wrap around to eight": (
        file_bytes(one(shape=[2**62 + 2]), EIGHT),
        "tensor a",
        "are 18446744073709551624",
    ),
    "more bytes than the shape": (file_bytes(one(shape=[1]), EIGHT), "tensor a", "are 4"),
    "fewer bytes than the shape": (file_bytes(one(shape=[3]), EIGHT), "tensor a", "are 12"),
    "one offset": (file_bytes(one(offsets=[0]), EIGHT), "tensor a", "data_offsets"),
    "three offsets": (file_bytes(one(offsets=[0, 8, 8]), EIGHT), "tensor a", "data_offsets"),
    "negative offset": (file_bytes(one(offsets=[-8, 0]), EIGHT), "tensor a", "data_offsets"),
    "end before begin": (file_bytes(one(offsets=[8, 0]), EIGHT), "tensor a", "data_offsets"),
    "offsets of text": (file_bytes(one(offsets=["0", "8"]), EIGHT), "tensor a", "data_offsets"),
    "ends behind the file": (file_bytes(one(), bytes(7)), "tensor a", "truncated"),
    "offset behind the file": (
        file_bytes(one(offsets=[HUGE - 8, HUGE]), EIGHT),
        "tensor a",
        "gap",
    ),
    "tensors overlap": (file_bytes(two(7, 9), bytes(9)), "tensor b", "overlaps the tensor a"),
    "tensors are the same": (file_bytes(two(0, 8), bytes(8)), "tensor", "overlaps"),
    "gap between tensors": (file_bytes(two(9, 10), bytes(10)), "tensor b", "gap of 1 bytes"),
    "gap before the first": (file_bytes(one(offsets=[1, 9]), bytes(9)), "tensor a", "gap"),
    "bytes behind the last": (file_bytes(one(), bytes(9)), "data", "1 bytes follow"),
    "bytes without a tensor": (file_bytes({}, bytes(3)), "data", "3 bytes follow"),
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_file_is_refused(what: str, tmp_path: Path) -> None:
    content, field, reason = FILES[what]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileFormatError) as caught:
        open_safetensors(path)
    assert caught.value.field.startswith(field)
    assert reason in caught.value.reason
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", ["F4", "f32", "", "F32\n", "x" * 100_000])
def test_an_unknown_type_is_named(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_bytes(one(dtype=dtype), EIGHT))
    with pytest.raises(UnsupportedModelError, match="tensor a: element type") as caught:
        open_safetensors(path)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()


def test_a_sparse_file_of_terabytes_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 1 << 39) + b"{")
        file.truncate(1 << 40)
    start = time.monotonic()
    with pytest.raises(FileFormatError, match="header length"):
        open_safetensors(path)
    assert time.monotonic() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1 << 21


def index_folder(folder: Path, weight_map: Any) -> Path:
    write_safetensors(folder / "a.safetensors", {"a": np.ones(2, np.float32)})
    write_safetensors(folder / "b.safetensors", {"b": np.ones(2, np.float32)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


# What is wrong -> the weight_map, words of the error.
INDICES: dict[str, tuple[Any, str]] = {
    "no tensors": ({}, "weight_map: is missing or empty"),
    "a list": ([["a", "a.safetensors"]], "weight_map: expected an object"),
    "a number as file": ({"a": 1}, r"weight_map\.a: expected a string"),
    "an absent tensor": ({"a": "a.safetensors", "c": "a.safetensors"}, r"weight_map\.c: says a"),
    "a tensor of another shard": ({"a": "b.safetensors"}, r"weight_map\.a: says b"),
    "an absent shard": (
        {"a": "a.safetensors", "c": "c.safetensors"},
        r"c\.safetensors: 1 of 2 sha",
    ),
    "a path upwards": ({"a": "../a.safetensors"}, "not the name of a safetensors file"),
    "an absolute path": ({"a": "/etc/a.safetensors"}, "not the name of a safetensors file"),
    "a Windows path": ({"a": "..\\a.safetensors"}, "not the name of a safetensors file"),
    "another kind of file": ({"a": "pytorch_model.bin"}, "not the name of a safetensors file"),
    "a name with control characters": ({"a": "\x1b.safetensors"}, "not the name of a safetensors"),
    "an unprintable tensor": ({"\n": "a.safetensors"}, "cannot be printed"),
}


@pytest.mark.parametrize("what", INDICES)
def test_a_broken_index_is_refused(what: str, tmp_path: Path) -> None:
    weight_map, message = INDICES[what]
    with pytest.raises((FileFormatError, SourceError), match=message) as caught:
        open_safetensors(index_folder(tmp_path, weight_map))
    assert str(caught.value).isprintable()


def test_a_tensor_that_two_shards_hold_is_refused(tmp_path: Path) -> None:
    index_folder(tmp_path, {"a": "a.safetensors", "b": "b.safetensors"})
    write_safetensors(
        tmp_path / "b.safetensors", {"a": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    )
    with pytest.raises(FileFormatError, match=r"tensor a: occurs in a\.safetensors, too"):
        open_safetensors(tmp_path)


def test_shards_without_an_index_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {n: np.ones(1, np.float32) for n in "ab"}, shards=2)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(SourceError, match=r"index\.json: is missing"):
        open_safetensors(tmp_path)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(SourceError, match=r"index\.json: is missing"):
        open_safetensors(tmp_path)


def test_pickled_weights_are_named_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(SourceError, match=r"pytorch_model\.bin is in a format that may run code"):
        open_safetensors(tmp_path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(SourceError, match="is not a file"):
        open_safetensors(tmp_path)
    with pytest.raises(SourceError, match="No such file"):
        open_safetensors(tmp_path / "absent.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no safetensors file"):
        open_safetensors(tmp_path / "empty")


# What is wrong -> the bytes of config.json, words of the error.
CONFIGS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not valid JSON"),
    "a list": (b"[]", "not a JSON object"),
    "a key twice": (b'{"a": 1, "a": 2}', "'a' occurs twice"),
    "not UTF-8": (b'{"a": "\xe2\x28"}', "UTF-8"),
    "nested": (b'{"a":' * 100_000, "too deeply"),
    "too large": (b'{"a": "' + b"x" * (1 << 24) + b'"}', "more than 16777216 bytes"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_broken_config_is_refused(what: str, tmp_path: Path) -> None:
    content, message = CONFIGS[what]
    write_folder(tmp_path, {"a": np.ones(1, np.float32)})
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(NextnError, match=message) as caught:
        _ = open_safetensors(tmp_path).config
    assert "config.json" in str(caught.value)


def test_a_block_with_a_huge_number_costs_nothing(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    state: dict[str, Any] = dict(tiny_state("llama"))
    norm = "input_layernorm.weight"
    for name in (f"model.layers.{'9' * 400}.{norm}", f"model.layers.99999999999.{norm}"):
        write_safetensors(folder / "model.safetensors", {**state, name: np.ones(64, np.float32)})
        with pytest.raises(UnsupportedModelError, match="not known"):
            convert(folder, tmp_path / "got.gguf")
    write_safetensors(
        folder / "model.safetensors", {**state, "mtp.layers.99999999999.mlp.up_proj.weight": ONE}
    )
    with pytest.raises(UnsupportedModelError, match="of a kind that nextn does not know"):
        convert(folder, tmp_path / "got.gguf")


def test_an_embedding_of_more_rows_than_any_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    rows = (1 << 22) + 1
    header = {"model.embed_tokens.weight": entry("F32", [rows, 64], 0, rows * 256)}
    content = file_bytes(header, b"")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(content)
        file.truncate(len(content) + rows * 256)
    with pytest.raises(FileFormatError, match="has 4194305 rows; at most 4194304"):
        convert(folder, tmp_path / "got.gguf")
