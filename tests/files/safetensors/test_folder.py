from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.errors import FileFormatError, SourceError
from nextn.files.safetensors import DTYPES, Config, is_safetensors, open_safetensors
from tests.support.safetensors_bytes import (
    bfloat16,
    entry,
    file_bytes,
    write_folder,
    write_safetensors,
)

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.int64),
    "c": np.array(2.5, np.float16),
    "d": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("shards", [1, 3])
def test_tensors_are_those_that_were_written(shards: int, tmp_path: Path) -> None:
    write_folder(tmp_path, TENSORS, {"model_type": "x"}, shards=shards)
    with open_safetensors(tmp_path) as folder:
        assert set(folder.tensors) == set(TENSORS)
        assert len(folder.files) == shards
        assert folder.file_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.safetensors"))
        assert folder.unlisted == folder.other_files == []
        for name, values in TENSORS.items():
            tensor = folder.tensors[name]
            assert tensor.shape == values.shape
            assert tensor.nbytes == values.nbytes
            np.testing.assert_array_equal(tensor.array, values)
            assert not (tensor.array.size and tensor.array.flags.writeable)
        np.testing.assert_array_equal(folder.tensors["b"].integers(), TENSORS["b"])
        assert folder.config.string("model_type") == "x"
        with pytest.raises(FileFormatError, match="tensor a: holds F32, not integers"):
            folder.tensors["a"].integers()


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.0e38, 1e-40, 0.0], np.float32)
    write_safetensors(tmp_path / "x.safetensors", {"a": bfloat16(values)})
    with open_safetensors(tmp_path) as folder:
        np.testing.assert_allclose(folder.tensors["a"].decode(), values, rtol=2**-8, atol=1e-40)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(DTYPES)),
            st.lists(st.integers(0, 4), max_size=4),
        ),
        max_size=6,
    )
)
def test_whatever_is_written_by_the_rules_is_read(
    tmp_path_factory: pytest.TempPathFactory, tensors: list[tuple[str, list[int]]]
) -> None:
    rng = np.random.default_rng(len(tensors))
    header: dict[str, Any] = {}
    data = b""
    for number, (dtype, shape) in enumerate(tensors):
        size = DTYPES[dtype].bytes * int(np.prod(shape, dtype=np.int64))
        header[f"t{number}"] = entry(dtype, shape, len(data), len(data) + size)
        data += rng.bytes(size)
    path = tmp_path_factory.mktemp("any") / "x.safetensors"
    # Writers pad the header with spaces.
    path.write_bytes(file_bytes(json.dumps(header).encode() + b"   ", data))
    with open_safetensors(path) as file:
        assert list(file.tensors) == list(header) or 0 in map(np.prod, (s for _, s in tensors))
        for name, told in header.items():
            begin, end = told["data_offsets"]
            assert file.tensors[name].array.tobytes() == data[begin:end]
            with np.errstate(invalid="ignore"):
                assert file.tensors[name].decode().shape == tuple(told["shape"])


def test_tensors_that_the_index_does_not_list_count_and_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path, TENSORS, shards=2)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    del index["weight_map"]["c"]
    path.write_text(json.dumps(index))
    with open_safetensors(tmp_path) as folder:
        assert set(folder.tensors) == set(TENSORS)
        assert folder.unlisted == ["c"]


def test_files_beside_the_checkpoint_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path, TENSORS)
    write_safetensors(tmp_path / "mtp.safetensors", {"mtp": np.ones(1, np.float32)})
    with open_safetensors(tmp_path) as folder:
        assert folder.other_files == ["mtp.safetensors"]
        assert "mtp" not in folder.tensors
    with open_safetensors(tmp_path / "mtp.safetensors") as file:
        assert list(file.tensors) == ["mtp"]
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(SourceError, match=r"none called model\.safetensors"):
        open_safetensors(tmp_path)


def test_a_checkpoint_is_told_from_other_paths(tmp_path: Path) -> None:
    assert not is_safetensors(tmp_path)
    write_folder(tmp_path, TENSORS)
    assert is_safetensors(tmp_path)
    assert is_safetensors(tmp_path / "model.safetensors")
    assert not is_safetensors(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"tokenizer_config": {}}, None),
        ({"tokenizer_config": {"chat_template": "A"}}, "A"),
        (
            {
                "tokenizer_config": {
                    "chat_template": [
                        {"name": "tool_use", "template": "B"},
                        {"name": "default", "template": "C"},
                    ]
                }
            },
            "C",
        ),
        (
            {"chat_template": {"chat_template": "D"}, "tokenizer_config": {"chat_template": "A"}},
            "D",
        ),
    ],
)
def test_the_chat_template_is_found_wherever_it_is(
    files: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    write_folder(tmp_path, TENSORS, **files)
    assert open_safetensors(tmp_path).chat_template == expected
    (tmp_path / "chat_template.jinja").write_text("E")
    assert open_safetensors(tmp_path).chat_template == "E"


def test_config_values_have_types_and_bounds(tmp_path: Path) -> None:
    values = {"i": 3, "f": 2.5, "b": True, "s": "x", "n": None, "o": {"k": 1}, "l": ["a", "b"]}
    config = Config(tmp_path, json.loads(json.dumps(values)))
    assert (config.integer("i"), config.number("i"), config.number("f")) == (3, 3.0, 2.5)
    assert (config.boolean("b"), config.string("s"), config.strings("l")) == (True, "x", ["a", "b"])
    assert config.section("o").integer("k") == 1
    assert config.section("absent").integer("k", 7) == config.integer("n", 7) == 7
    assert ("i" in config, "n" in config, "absent" in config) == (True, False, False)
    for call, message in (
        (lambda: config.integer("b"), "b: expected an integer, got bool True"),
        (lambda: config.integer("f"), "f: expected an integer, got float 2.5"),
        (lambda: config.integer("i", minimum=4), "i: is 3, but must be at least 4"),
        (lambda: config.integer("n"), "n: is missing"),
        (lambda: config.number("s"), "s: expected a number, got the string 'x'"),
        (lambda: config.section("o").string("k"), r"o\.k: expected a string"),
        (lambda: config.section("l"), "l: expected an object, got a list of 2"),
        (
            lambda: Config(tmp_path, {"f": float("nan")}).number("f"),
            "f: is nan, but must be finite",
        ),
        (lambda: Config(tmp_path, {"f": 10**400}).number("f"), "f: is .* but must be finite"),
    ):
        with pytest.raises(FileFormatError, match=message):
            call()
