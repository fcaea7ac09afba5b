"""Crafted GGUF files: each breaks one rule of the format, and is refused by the name of the field.

Many mirror published weaknesses of other readers: counts, lengths and shapes whose product wraps
around, arrays of 2**63 elements, tensors that reach behind the data.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from nextn.errors import FileFormatError, SourceError, UnsupportedModelError
from nextn.files import open_checkpoint
from tests.support.gguf_bytes import (
    ARCHITECTURE,
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U16,
    U32,
    U64,
    GgufBytes,
    array_entry,
    entry,
    number_entry,
    string,
    tensor_entry,
    text_entry,
    u32,
    u64,
)

F16, Q4_0, Q4_K = 1, 2, 12
HUGE = 2**63 - 1
ALIGNMENT = "general.alignment"


def with_metadata(*entries: bytes) -> GgufBytes:
    return GgufBytes(metadata=[ARCHITECTURE, *entries])


def with_tensors(*entries: bytes, data: bytes = bytes(64)) -> GgufBytes:
    return GgufBytes(tensors=list(entries), data=data)


# What is wrong -> the file, the field that the error names, a word of the reason.
HEADERS: dict[str, tuple[GgufBytes, str, str]] = {
    "wrong magic": (GgufBytes(magic=b"GGML"), "magic", "not a GGUF file"),
    "version 0": (GgufBytes(version=0), "version", "not supported"),
    "version 1": (GgufBytes(version=1), "version", "not supported"),
    "version 4": (GgufBytes(version=4), "version", "not supported"),
    "big-endian": (GgufBytes(version=0x03000000), "version", "big-endian"),
    "more tensors than bytes": (GgufBytes(tensor_count=1000), "tensor count", "do not fit"),
    "tensor count wraps": (GgufBytes(tensor_count=2**64 - 1), "tensor count", "do not fit"),
    "tensor count * size wraps": (GgufBytes(tensor_count=2**61), "tensor count", "do not fit"),
    "more metadata than bytes": (GgufBytes(metadata_count=1000), "metadata count", "do not fit"),
    "metadata count wraps": (GgufBytes(metadata_count=2**64 - 1), "metadata count", "do not fit"),
}
METADATA: dict[str, tuple[GgufBytes, str, str]] = {
    "empty key": (with_metadata(text_entry("", "x")), "metadata key 1", "empty"),
    "key twice": (with_metadata(ARCHITECTURE), "general.architecture", "twice"),
    "key not UTF-8": (with_metadata(text_entry(b"\xff", "x")), "metadata key 1", "UTF-8"),
    "key with control characters": (
        with_metadata(text_entry("a\x1b[2J", "x")),
        "metadata key 1",
        "cannot be printed",
    ),
    "key longer than allowed": (
        with_metadata(text_entry("k" * 65_536, "x")),
        "metadata key 1",
        "at most",
    ),
    "key longer than the file": (with_metadata(u64(60_000)), "metadata key 1", "truncated"),
    "key length wraps": (with_metadata(u64(2**64 - 1) + bytes(32)), "metadata key 1", "at most"),
    "unknown value type": (with_metadata(entry("k", 13, bytes(8))), "k", "value type 13"),
    "negative value type": (with_metadata(entry("k", 2**32 - 1, bytes(8))), "k", "value type"),
    "string longer than the file": (
        with_metadata(entry("k", STRING, u64(1 << 20) + bytes(8))),
        "k",
        "truncated",
    ),
    "string longer than allowed": (
        with_metadata(entry("k", STRING, u64(HUGE) + bytes(8))),
        "k",
        "at most",
    ),
    "string not UTF-8": (with_metadata(text_entry("k", b"a\xc3")), "k", "UTF-8"),
    "truth value 2": (with_metadata(entry("k", BOOL, b"\2")), "k", "0 and 1"),
    "array of truth value 2": (with_metadata(array_entry("k", BOOL, [b"\2"])), "k", "0 and 1"),
    "array of arrays": (
        with_metadata(array_entry("k", ARRAY, [u32(U8) + u64(1) + b"\0"])),
        "k",
        "array of arrays",
    ),
    "unknown element type": (with_metadata(array_entry("k", 99, [b"\0"])), "k", "element type 99"),
    "array of 2**63 - 1 bytes": (
        with_metadata(array_entry("k", U8, [], count=HUGE)),
        "k",
        "does not fit",
    ),
    "array of 2**64 - 1 strings": (
        with_metadata(array_entry("k", STRING, [], count=2**64 - 1)),
        "k",
        "does not fit",
    ),
    "array bytes wrap to a little": (
        with_metadata(array_entry("k", U64, [bytes(8)], count=2**61 + 1)),
        "k",
        "does not fit",
    ),
    "array one element too long": (
        GgufBytes(metadata=[array_entry("k", F32, [], count=1)], tensors=[], alignment=1, data=b""),
        "k",
        "does not fit",
    ),
    "string in an array longer than the file": (
        with_metadata(array_entry("k", STRING, [string("a"), u64(1 << 20)])),
        "k[1]",
        "does not fit",
    ),
    "string length in an array wraps": (
        with_metadata(array_entry("k", STRING, [string("a"), u64(2**64 - 8)])),
        "k[1]",
        "does not fit",
    ),
    "alignment 0": (with_metadata(number_entry(ALIGNMENT, U32, 0)), ALIGNMENT, "power of two"),
    "alignment 24": (with_metadata(number_entry(ALIGNMENT, U32, 24)), ALIGNMENT, "power of two"),
    "alignment 4": (with_metadata(number_entry(ALIGNMENT, U32, 4)), ALIGNMENT, "from 8"),
    "alignment 2 GiB": (with_metadata(number_entry(ALIGNMENT, U32, 2**31)), ALIGNMENT, "1048576"),
    "alignment not u32": (with_metadata(number_entry(ALIGNMENT, U64, 32)), ALIGNMENT, "type u32"),
    "alignment is text": (with_metadata(text_entry(ALIGNMENT, "32")), ALIGNMENT, "type u32"),
    "no architecture": (GgufBytes(metadata=[]), "general.architecture", "missing"),
    "architecture is a number": (
        GgufBytes(metadata=[number_entry("general.architecture", U32, 1)]),
        "general.architecture",
        "expected a string",
    ),
}
TENSORS: dict[str, tuple[GgufBytes, str, str]] = {
    "empty name": (with_tensors(tensor_entry("")), "tensor name 0", "empty"),
    "name of 64 bytes": (with_tensors(tensor_entry("n" * 64)), "tensor name 0", "at most 63"),
    "name not UTF-8": (with_tensors(tensor_entry(b"\x80")), "tensor name 0", "UTF-8"),
    "name with a line feed": (with_tensors(tensor_entry("a\nb")), "tensor name 0", "printed"),
    "name twice": (
        with_tensors(tensor_entry("a"), tensor_entry("a", offset=32)),
        "tensor a",
        "twice",
    ),
    "no dimensions": (with_tensors(tensor_entry("a", [])), "tensor a", "0 dimensions"),
    "five dimensions": (with_tensors(tensor_entry("a", [1] * 5)), "tensor a", "5 dimensions"),
    "2**32 - 1 dimensions": (
        with_tensors(tensor_entry("a", [1], dimensions=2**32 - 1)),
        "tensor a",
        "dimensions",
    ),
    "dimension 0": (with_tensors(tensor_entry("a", [8, 0])), "tensor a", "shape"),
    "dimension -1": (with_tensors(tensor_entry("a", [2**64 - 1])), "tensor a", "shape"),
    "elements wrap to 0": (with_tensors(tensor_entry("a", [2**32, 2**32])), "tensor a", "shape"),
    "elements wrap to a little": (
        with_tensors(tensor_entry("a", [8, 2**61 + 1])),
        "tensor a",
        "shape",
    ),
    "bytes wrap to a little": (
        with_tensors(tensor_entry("a", [2**62 + 8])),
        "tensor a",
        "truncated",
    ),
    "rows of half a block": (
        with_tensors(tensor_entry("a", [48], Q4_0)),
        "tensor a",
        "whole Q4_0 blocks of 32",
    ),
    "rows of half a super-block": (
        with_tensors(tensor_entry("a", [128], Q4_K)),
        "tensor a",
        "whole Q4_K blocks of 256",
    ),
    "removed format Q4_2": (with_tensors(tensor_entry("a", [32], 4)), "tensor a", "Q4_2"),
    "removed format Q4_0_8_8": (with_tensors(tensor_entry("a", [32], 33)), "tensor a", "Q4_0_8_8"),
    "removed format IQ4_NL_4_4": (
        with_tensors(tensor_entry("a", [32], 36)),
        "tensor a",
        "IQ4_NL_4_4",
    ),
    "offset not aligned": (with_tensors(tensor_entry("a", offset=4)), "tensor a", "multiple of 32"),
    "offset behind the file": (with_tensors(tensor_entry("a", offset=1 << 40)), "tensor a", "ends"),
    "offset + bytes wraps": (
        with_tensors(tensor_entry("a", offset=2**64 - 32)),
        "tensor a",
        "truncated",
    ),
    "last byte is missing": (with_tensors(tensor_entry("a"), data=bytes(31)), "tensor a", "ends"),
    "no data section": (
        GgufBytes(tensors=[tensor_entry("a")], alignment=1, data=b""),
        "tensor a",
        "truncated",
    ),
    "two tensors on the same bytes": (
        with_tensors(tensor_entry("a"), tensor_entry("b")),
        "tensor b",
        "overlaps the tensor a",
    ),
    "tensors overlap in part": (
        with_tensors(tensor_entry("b", offset=32), tensor_entry("a", [16])),
        "tensor b",
        "overlaps the tensor a",
    ),
}
CASES = [pytest.param(*case, id=name) for name, case in (HEADERS | METADATA | TENSORS).items()]


@pytest.mark.parametrize(("file", "field", "reason"), CASES)
def test_error_names_the_field(tmp_path: Path, file: GgufBytes, field: str, reason: str) -> None:
    path = tmp_path / "crafted.gguf"
    path.write_bytes(file.build())
    with pytest.raises(FileFormatError) as caught:
        open_checkpoint(path)
    assert caught.value.field == field
    assert reason in caught.value.reason
    message = str(caught.value)
    assert message.startswith(f"{path}: {field}: ")
    assert message.isprintable()


def test_the_file_without_a_fault_opens(tmp_path: Path) -> None:
    path = tmp_path / "right.gguf"
    path.write_bytes(GgufBytes(data=np.arange(8, dtype="<f4").tobytes()).build())
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.architecture == "llama"
        np.testing.assert_array_equal(checkpoint.tensors["a.weight"].decode(), np.arange(8))


@pytest.mark.parametrize("size", range(24))
def test_a_file_shorter_than_the_fixed_part_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(GgufBytes().build()[:size])
    with pytest.raises(FileFormatError, match=r"magic|version|count"):
        open_checkpoint(path)


@pytest.mark.parametrize("type_id", [9, 16, 34, 42, 43, 2**31, 2**32 - 1])
def test_an_unknown_block_format_is_named_with_those_that_are_read(
    tmp_path: Path, type_id: int
) -> None:
    path = tmp_path / "unknown.gguf"
    path.write_bytes(with_tensors(tensor_entry("a", [256], type_id)).build())
    with pytest.raises(UnsupportedModelError, match=rf"tensor a: block format {type_id} .*Q4_K"):
        open_checkpoint(path)


TOKENS = array_entry("tokenizer.ggml.tokens", STRING, [string("a"), string("b")])
MERGES = array_entry("tokenizer.ggml.merges", STRING, [])
BPE = text_entry("tokenizer.ggml.model", "gpt2")
BAD_TOKENIZERS: dict[str, tuple[list[bytes], str, str]] = {
    "no model": ([TOKENS, MERGES], "tokenizer.ggml.model", "missing"),
    "no tokens": ([BPE, MERGES], "tokenizer.ggml.tokens", "missing"),
    "tokens are numbers": (
        [BPE, MERGES, array_entry("tokenizer.ggml.tokens", U32, [u32(1)])],
        "tokenizer.ggml.tokens",
        "array of strings",
    ),
    "zero tokens": (
        [BPE, MERGES, array_entry("tokenizer.ggml.tokens", STRING, [])],
        "tokenizer.ggml.tokens",
        "empty",
    ),
    "token not UTF-8": (
        [BPE, MERGES, array_entry("tokenizer.ggml.tokens", STRING, [string("a"), string(b"\xe2")])],
        "tokenizer.ggml.tokens[1]",
        "UTF-8",
    ),
    # Declared as bytes and read as wider numbers, these once led to reads past the end.
    "scores are bytes": (
        [BPE, MERGES, TOKENS, array_entry("tokenizer.ggml.scores", U8, [b"\1\2"], count=2)],
        "tokenizer.ggml.scores",
        "array of floats",
    ),
    "token types are floats": (
        [BPE, MERGES, TOKENS, array_entry("tokenizer.ggml.token_type", F32, [u32(0)] * 2)],
        "tokenizer.ggml.token_type",
        "array of integers",
    ),
    "too few token types": (
        [BPE, MERGES, TOKENS, array_entry("tokenizer.ggml.token_type", I32, [u32(1)])],
        "tokenizer.ggml.token_type",
        "must have 2",
    ),
    "unknown token type": (
        [BPE, MERGES, TOKENS, array_entry("tokenizer.ggml.token_type", I32, [u32(1), u32(7)])],
        "tokenizer.ggml.token_type",
        "at most 6",
    ),
    "end of text outside the vocabulary": (
        [BPE, MERGES, TOKENS, number_entry("tokenizer.ggml.eos_token_id", U32, 2)],
        "tokenizer.ggml.eos_token_id",
        "at most 1",
    ),
    "beginning of text is negative": (
        [BPE, MERGES, TOKENS, number_entry("tokenizer.ggml.bos_token_id", I32, -1)],
        "tokenizer.ggml.bos_token_id",
        "at least 0",
    ),
    "a flag is a number": (
        [BPE, MERGES, TOKENS, number_entry("tokenizer.ggml.add_bos_token", U32, 1)],
        "tokenizer.ggml.add_bos_token",
        "truth value",
    ),
}


@pytest.mark.parametrize(
    ("entries", "field", "reason"),
    [pytest.param(*case, id=name) for name, case in BAD_TOKENIZERS.items()],
)
def test_bad_tokenizer_data_is_refused_by_key(
    tmp_path: Path, entries: list[bytes], field: str, reason: str
) -> None:
    path = tmp_path / "tokenizer.gguf"
    path.write_bytes(with_metadata(*entries).build())
    with open_checkpoint(path) as checkpoint, pytest.raises(FileFormatError) as caught:
        checkpoint.tokenizer  # noqa: B018
    assert caught.value.field == field
    assert reason in caught.value.reason


@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7E00], ids=["inf", "-inf", "nan"])
def test_a_scale_that_is_not_finite_is_found_with_its_block(tmp_path: Path, bad: int) -> None:
    blocks = bytes(18) + bad.to_bytes(2, "little") + bytes(16)
    path = tmp_path / "scales.gguf"
    path.write_bytes(with_tensors(tensor_entry("a", [64], Q4_0), data=blocks).build())
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(FileFormatError, match="tensor a: block 1 holds NaN or infinity"),
    ):
        checkpoint.tensors["a"].check_finite()


SPLITS: dict[str, tuple[bytes, str]] = {
    "2**32 - 1 parts": (number_entry("split.count", U32, 2**32 - 1), "split.count"),
    "65535 parts": (number_entry("split.count", U16, 65_535), "split.count"),
    "parts are text": (text_entry("split.count", "../../etc"), "split.count"),
    "-1 parts": (number_entry("split.count", I32, -1), "split.count"),
}


@pytest.mark.parametrize(
    ("key", "field"), [pytest.param(*case, id=name) for name, case in SPLITS.items()]
)
def test_a_part_count_that_the_name_does_not_confirm_is_refused(
    tmp_path: Path, key: bytes, field: str
) -> None:
    path = tmp_path / "model-00001-of-00002.gguf"
    path.write_bytes(with_metadata(number_entry("split.no", U16, 0), key).build())
    with pytest.raises(FileFormatError) as caught:
        open_checkpoint(path)
    assert caught.value.field == field


PARTS: dict[str, tuple[list[bytes], str]] = {
    "number is a list": (
        [array_entry("split.no", U16, [bytes(2)] * 2), number_entry("split.count", U16, 2)],
        "split.no",
    ),
    "tensors are a list": (
        [
            number_entry("split.no", U16, 0),
            number_entry("split.count", U16, 2),
            array_entry("split.tensors.count", U16, [bytes(2)] * 2),
        ],
        "split.tensors.count",
    ),
}


@pytest.mark.parametrize(
    ("keys", "field"), [pytest.param(*case, id=name) for name, case in PARTS.items()]
)
def test_numbers_of_a_part_must_be_numbers(tmp_path: Path, keys: list[bytes], field: str) -> None:
    path = tmp_path / "model-00001-of-00002.gguf"
    path.write_bytes(with_metadata(*keys).build())
    second = [number_entry("split.no", U16, 1), number_entry("split.count", U16, 2)]
    path.with_name("model-00002-of-00002.gguf").write_bytes(
        GgufBytes(metadata=[ARCHITECTURE, *second], tensors=[tensor_entry("b.weight")]).build()
    )
    with pytest.raises(FileFormatError) as caught:
        open_checkpoint(path)
    assert caught.value.field == field


def test_a_directory_and_a_missing_file_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not a file"):
        open_checkpoint(tmp_path)
    with pytest.raises(SourceError, match="cannot be read"):
        open_checkpoint(tmp_path / "missing.gguf")


def test_huge_claims_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    crafted = [case[0].build() for case in (HEADERS | METADATA | TENSORS).values()]
    path = tmp_path / "crafted.gguf"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    for content in crafted:
        path.write_bytes(content)
        with pytest.raises(FileFormatError):
            open_checkpoint(path)
    assert time.perf_counter() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
