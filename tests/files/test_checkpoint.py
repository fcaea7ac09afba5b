"""Checkpoints against the `gguf` package's reader, typed metadata, split models."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFValueType

from nextn.errors import FileFormatError, SourceError
from nextn.files import Checkpoint, check_vocabulary, open_checkpoint
from tests.support.gguf_bytes import (
    ARCHITECTURE,
    BOOL,
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    GgufBytes,
    array_entry,
    entry,
    number,
    number_entry,
    string,
    tensor_entry,
    text_entry,
)
from tests.support.tiny_gguf import FAMILIES, write_tiny_model

MIXED = {"attn_v": "Q8_0", "ffn_down": "Q6_K", "ffn_up": "Q4_K", "attn_q": "F16", "default": "Q4_1"}
VALUES = [
    (U8, 255), (I8, -128), (U16, 65_535), (I16, -32_768), (U32, 2**32 - 1), (I32, -(2**31)),
    (U64, 2**64 - 1), (I64, -(2**63)), (F32, 0.1), (F64, 0.1), (BOOL, 1),
]  # fmt: skip


def build(path: Path, *entries: bytes) -> Checkpoint:
    path.write_bytes(GgufBytes(metadata=[ARCHITECTURE, *entries]).build())
    return open_checkpoint(path)


@pytest.fixture
def typed(tmp_path: Path) -> Checkpoint:
    """One key of every kind that the getters tell apart."""
    return build(
        tmp_path / "typed.gguf",
        number_entry("llama.block_count", U32, 7),
        number_entry("number", F32, 0.5),
        number_entry("infinity", F32, float("inf")),
        number_entry("flag", BOOL, 1),
        text_entry("text", "words"),
        array_entry("integers", I32, [number(I32, value) for value in (-3, 0, 9)]),
        array_entry("floats", F32, [number(F32, value) for value in (0.25, -2.0)]),
        array_entry("nan", F32, [number(F32, float("nan"))]),
        array_entry("strings", STRING, [string("a"), string("▁é")]),
        array_entry("empty", STRING, []),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_metadata_and_tensors_are_what_another_reader_finds(tmp_path: Path, family: str) -> None:
    path = tmp_path / "tiny.gguf"
    sizes = {"hidden": 256, "heads": 4, "head_dim": 64, "ffn": 256}
    weights = write_tiny_model(path, family, types=MIXED, layers=1, **sizes)
    reader = GGUFReader(path)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.architecture == family
        assert checkpoint.file_bytes == path.stat().st_size
        for key, field in reader.fields.items():
            if key.startswith("GGUF."):
                continue
            if field.types[0] != GGUFValueType.ARRAY:
                assert checkpoint.metadata[key] == field.contents()
            elif field.types[1] == GGUFValueType.STRING:
                assert checkpoint.strings(key) == field.contents()
            else:
                np.testing.assert_array_equal(checkpoint.metadata[key], field.contents())
        assert list(checkpoint.tensors) == [tensor.name for tensor in reader.tensors]
        for expected in reader.tensors:
            tensor = checkpoint.tensors[expected.name]
            assert tensor.block_type.name == expected.tensor_type.name
            assert tensor.shape == tuple(reversed([int(size) for size in expected.shape]))
            assert tensor.nbytes == expected.n_bytes
            raw = np.ascontiguousarray(expected.data).view(np.uint8)
            np.testing.assert_array_equal(tensor.data, raw.reshape(-1))
            np.testing.assert_array_equal(tensor.decode(), weights[expected.name])


def test_version_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "v2.gguf"
    path.write_bytes(GgufBytes(version=2).build())
    assert list(open_checkpoint(path).tensors) == ["a.weight"]


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_alignment_of_the_file_is_followed(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "aligned.gguf"
    key = number_entry("general.alignment", U32, alignment)
    tensors = [tensor_entry("a", [2]), tensor_entry("b", [2], offset=alignment)]
    data = np.arange(2, dtype="<f4").tobytes().ljust(alignment, b"\0")
    data += np.arange(2, 4, dtype="<f4").tobytes()
    file = GgufBytes(metadata=[ARCHITECTURE, key], tensors=tensors, alignment=alignment, data=data)
    path.write_bytes(file.build())
    tensor = open_checkpoint(path).tensors["b"]
    np.testing.assert_array_equal(tensor.decode(), np.float32([2, 3]))


@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_numbers_of_every_type_are_read(tmp_path: Path, kind: int, value: float) -> None:
    expected = np.float32(value).item() if kind == F32 else value
    checkpoint = build(
        tmp_path / "number.gguf",
        number_entry("one", kind, value),
        array_entry("many", kind, [number(kind, value)] * 3),
    )
    assert checkpoint.metadata["one"] == expected
    many = checkpoint.metadata["many"]
    assert isinstance(many, np.ndarray)
    assert many.tolist() == [expected] * 3


def test_data_is_a_view_of_the_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama")
    tensor = open_checkpoint(path).tensors["token_embd.weight"]
    assert tensor.data.base is not None
    with pytest.raises(ValueError, match="read-only"):
        tensor.data[0] = 1


def test_views_outlive_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    weights = write_tiny_model(path, "llama")
    with open_checkpoint(path) as checkpoint:
        data = checkpoint.tensors["token_embd.weight"].data
    del checkpoint
    expected = weights["token_embd.weight"].reshape(-1)
    np.testing.assert_array_equal(data.view(np.float32), expected)


@pytest.mark.parametrize("kind", ["F32", "Q4_0", "Q8_0"])
def test_decode_rows_takes_the_rows_in_the_order_asked_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tiny.gguf"
    weights = write_tiny_model(path, "llama", types=kind)
    ids = [5, 0, 5, 319]
    rows = open_checkpoint(path).tensors["token_embd.weight"].decode_rows(ids)
    np.testing.assert_array_equal(rows, weights["token_embd.weight"][ids])


def test_weights_without_nan_pass_the_check(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "qwen3", types="Q4_1")
    for tensor in open_checkpoint(path).tensors.values():
        tensor.check_finite()


def test_getters_return_values_of_their_type(typed: Checkpoint) -> None:
    assert typed.integer("{arch}.block_count") == 7
    assert typed.number("number") == 0.5
    assert typed.number("llama.block_count") == 7.0
    assert typed.boolean("flag") is True
    assert typed.string("text") == "words"
    assert typed.integers("integers", length=3, minimum=-3, maximum=9).tolist() == [-3, 0, 9]
    assert typed.numbers("floats", length=2).tolist() == [0.25, -2.0]
    assert typed.strings("strings", length=2) == ["a", "▁é"]
    assert typed.strings("empty") == []


def test_getters_return_the_default_of_a_missing_key(typed: Checkpoint) -> None:
    assert typed.integer("{arch}.none", 3) == 3
    assert typed.number("none", 0.5) == 0.5
    assert typed.boolean("none", False) is False
    assert typed.string("none", "x") == "x"


@pytest.mark.parametrize(
    ("field", "reason", "get"),
    [
        ("llama.none", "missing", lambda c: c.integer("{arch}.none")),
        ("text", "expected an integer, got the string 'words'", lambda c: c.integer("text")),
        ("flag", "expected an integer, got bool True", lambda c: c.integer("flag")),
        ("number", "expected an integer, got float 0.5", lambda c: c.integer("number")),
        ("integers", "an array of 3 values of type int32", lambda c: c.integer("integers")),
        ("llama.block_count", "is 7, but must be at least 8",
         lambda c: c.integer("{arch}.block_count", minimum=8)),
        ("llama.block_count", "is 7, but must be at least 1 and at most 6",
         lambda c: c.integer("{arch}.block_count", minimum=1, maximum=6)),
        ("flag", "expected a number, got bool True", lambda c: c.number("flag")),
        ("infinity", "is inf, but must be finite", lambda c: c.number("infinity")),
        ("number", "is 0.5, but must be at least 1", lambda c: c.number("number", minimum=1)),
        ("llama.block_count", "expected a truth value, got int 7",
         lambda c: c.boolean("{arch}.block_count")),
        ("strings", "expected a string, got an array of 2 strings", lambda c: c.string("strings")),
        ("floats", "expected an array of integers", lambda c: c.integers("floats")),
        ("integers", "has 3 entries, but must have 4", lambda c: c.integers("integers", length=4)),
        ("integers", "is -3, but must be at least 0", lambda c: c.integers("integers", minimum=0)),
        ("integers", "is 9, but must be at most 8", lambda c: c.integers("integers", maximum=8)),
        ("integers", "expected an array of floats", lambda c: c.numbers("integers")),
        ("nan", "holds NaN", lambda c: c.numbers("nan")),
        ("text", "expected an array of strings", lambda c: c.strings("text")),
        ("strings", "has 2 entries, but must have 1", lambda c: c.strings("strings", length=1)),
    ],
)  # fmt: skip
def test_getters_say_what_is_wrong_with_a_key(
    typed: Checkpoint, field: str, reason: str, get: Callable[[Checkpoint], object]
) -> None:
    with pytest.raises(FileFormatError) as caught:
        get(typed)
    assert caught.value.field == field
    assert reason in caught.value.reason
    assert str(typed.path) in str(caught.value)


def test_a_string_that_is_not_utf8_is_named_when_it_is_decoded(tmp_path: Path) -> None:
    array = array_entry("names", STRING, [string("a"), string(b"\xff")])
    checkpoint = build(tmp_path / "strings.gguf", array)
    with pytest.raises(FileFormatError) as caught:
        checkpoint.strings("names")
    assert caught.value.field == "names[1]"


def test_chat_template_is_optional(tmp_path: Path) -> None:
    assert build(tmp_path / "without.gguf").chat_template is None
    template = text_entry("tokenizer.chat_template", "{{ messages }}")
    assert build(tmp_path / "with.gguf", template).chat_template == "{{ messages }}"
    broken = build(tmp_path / "broken.gguf", entry("tokenizer.chat_template", BOOL, b"\1"))
    with pytest.raises(FileFormatError, match=r"tokenizer\.chat_template"):
        _ = broken.chat_template


def test_vocabulary_must_have_as_many_tokens_as_the_embedding_rows(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama")
    check_vocabulary(open_checkpoint(path))
    tokens = array_entry("tokenizer.ggml.tokens", STRING, [string("a")])
    for tensor, reason in [
        (tensor_entry("a"), "is missing"),
        (tensor_entry("token_embd.weight", [8]), "is not a matrix"),
        (tensor_entry("token_embd.weight", [4, 2]), "has 1 tokens, but .* 2 rows"),
    ]:
        path.write_bytes(GgufBytes(metadata=[ARCHITECTURE, tokens], tensors=[tensor]).build())
        with pytest.raises(FileFormatError, match=reason):
            check_vocabulary(open_checkpoint(path))


def split_model(folder: Path) -> list[Path]:
    write_tiny_model(folder / "tiny.gguf", "llama", tensors_per_part=8, seed=3)
    return sorted(folder.glob("tiny-*-of-*.gguf"))


def test_parts_of_a_split_model_are_one_checkpoint(tmp_path: Path) -> None:
    weights = write_tiny_model(tmp_path / "whole.gguf", "llama", seed=3)
    parts = split_model(tmp_path)
    assert len(parts) > 2
    checkpoint = open_checkpoint(parts[0])
    assert checkpoint.path == parts[0]
    assert checkpoint.file_bytes == sum(part.stat().st_size for part in parts)
    assert checkpoint.integer("{arch}.block_count") == 2
    assert checkpoint.tensors.keys() == weights.keys()
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor.decode(), weights[name])


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    parts[1].unlink()
    with pytest.raises(SourceError, match=rf"{parts[1].name}.*part 2 of {len(parts)}.*missing"):
        open_checkpoint(parts[0])


def test_a_later_part_names_the_first(tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    with pytest.raises(FileFormatError, match=rf"split\.no.*open {parts[0].name}"):
        open_checkpoint(parts[1])


def test_a_renamed_part_is_refused(tmp_path: Path) -> None:
    first = split_model(tmp_path)[0]
    with pytest.raises(FileFormatError, match=r"split\.count"):
        open_checkpoint(first.rename(tmp_path / "renamed.gguf"))


def test_parts_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    parts = split_model(tmp_path)
    last = parts[2].read_bytes()
    parts[2].write_bytes(parts[1].read_bytes())
    parts[1].write_bytes(last)
    with pytest.raises(FileFormatError, match=r"split\.no: does not say 1"):
        open_checkpoint(parts[0])


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    def part(number: int, *entries: bytes) -> Path:
        path = tmp_path / f"m-{number:05d}-of-00002.gguf"
        keys = [number_entry("split.no", U16, number - 1), number_entry("split.count", U16, 2)]
        path.write_bytes(GgufBytes(metadata=[ARCHITECTURE, *keys, *entries]).build())
        return path

    first, second = part(1), part(2)
    with pytest.raises(FileFormatError, match=rf"{second.name}: tensor a\.weight: .*earlier part"):
        open_checkpoint(first)


def test_a_wrong_count_of_tensors_is_refused(tmp_path: Path) -> None:
    for part in (1, 2):
        keys = [
            number_entry("split.no", U16, part - 1),
            number_entry("split.count", U16, 2),
            number_entry("split.tensors.count", I32, 5),
        ]
        tensors = [tensor_entry(f"t{part}")]
        path = tmp_path / f"m-{part:05d}-of-00002.gguf"
        path.write_bytes(GgufBytes(metadata=[ARCHITECTURE, *keys], tensors=tensors).build())
    with pytest.raises(FileFormatError, match=r"split\.tensors\.count: says 5, .* hold 2"):
        open_checkpoint(tmp_path / "m-00001-of-00002.gguf")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.gguf"
    path.touch()
    with pytest.raises(FileFormatError, match="the file is empty"):
        open_checkpoint(path)


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    os.mkfifo(pipe)
    refused = threading.Event()

    def attempt() -> None:
        with pytest.raises(SourceError, match="is not a file"):
            open_checkpoint(pipe)
        refused.set()

    threading.Thread(target=attempt, daemon=True).start()
    assert refused.wait(5)


def test_tokenizer_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama")
    checkpoint = open_checkpoint(path)
    assert checkpoint.tokenizer is checkpoint.tokenizer
