"""Crafted model descriptions: metadata costs nothing and breaks nothing before it is checked."""

from __future__ import annotations

import os
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest

from nextn.errors import FileFormatError, NextnError
from nextn.files import Checkpoint, open_checkpoint
from nextn.files.gguf import limits
from nextn.models import load_model_plan
from nextn.text.tokenizer import load_tokenizer
from tests.support.gguf_bytes import (
    ARCHITECTURE,
    ARRAY,
    STRING,
    U8,
    GgufBytes,
    array_entry,
    entry,
    string,
    text_entry,
    u32,
    u64,
)
from tests.support.small_models import small_model


def open_small(folder: Path, family: str, **keys: float | str) -> Checkpoint:
    path = folder / "model.gguf"
    path.write_bytes(small_model(family, **keys))
    return open_checkpoint(path)


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("qwen3", {"attention__key_length": 2**31}),
        ("gemma3", {"attention__key_length": 2**32 - 1}),
        ("llama", {"embedding_length": 2**28}),
        ("llama", {"attention__key_length": 2**24, "rope__dimension_count": 2**24}),
    ],
)
def test_a_huge_head_is_refused_before_its_tables_are_made(
    tmp_path: Path, family: str, keys: dict[str, float | str]
) -> None:
    tracemalloc.start()
    try:
        with (
            open_small(tmp_path, family, **keys) as checkpoint,
            pytest.raises(FileFormatError, match=f"{family}.attention.key_length: .*at most"),
        ):
            load_model_plan(checkpoint)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize(
    ("family", "keys", "field"),
    [
        ("llama", {"rope__scaling__type": "linear", "rope__scaling__factor": 1e-38}, "llama.rope"),
        (
            "qwen3",
            {
                "rope__scaling__type": "yarn",
                "rope__scaling__factor": 1e-38,
                "rope__scaling__original_context_length": 1,
            },
            "qwen3.rope",
        ),
        (
            "gemma3",
            {"attention__sliding_window": 2**32 - 1},
            "gemma3.attention.sliding_window",
        ),
    ],
)
def test_numbers_that_would_overflow_later_are_refused(
    tmp_path: Path, family: str, keys: dict[str, float | str], field: str
) -> None:
    with warnings.catch_warnings(), open_small(tmp_path, family, **keys) as checkpoint:
        warnings.simplefilter("error")
        with pytest.raises(FileFormatError) as caught:
            load_model_plan(checkpoint)
    assert caught.value.field == field


LONG = "x" * 100_000


@pytest.mark.parametrize("name", ["", "llama\n\x1b[2J", LONG, "\u202ellama"], ids=ascii)
def test_an_architecture_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(GgufBytes(metadata=[text_entry("general.architecture", name)]).build())
    with pytest.raises(FileFormatError, match=r"general.architecture: .* is not a name") as caught:
        open_checkpoint(path)
    assert_one_short_line(caught.value)


@pytest.mark.parametrize("value", [LONG, "a\nb\x1b[2J"], ids=["long", "control"])
@pytest.mark.parametrize("key", ["tokenizer.ggml.model", "tokenizer.ggml.pre", "x" * 60_000])
def test_text_from_the_file_makes_no_long_message(tmp_path: Path, key: str, value: str) -> None:
    tokenizer = {"tokenizer.ggml.model": "gpt2", key: value}
    metadata = [
        ARCHITECTURE,
        *(text_entry(name, text) for name, text in tokenizer.items()),
        array_entry("tokenizer.ggml.tokens", STRING, [string("a")]),
        array_entry("tokenizer.ggml.merges", STRING, []),
    ]
    path = tmp_path / "model.gguf"
    path.write_bytes(GgufBytes(metadata=metadata).build())
    with open_checkpoint(path) as checkpoint:
        with pytest.raises(NextnError) as caught:
            checkpoint.integer(key)
        assert_one_short_line(caught.value)
        if key.startswith("tokenizer"):
            with pytest.raises(NextnError) as caught:
                load_tokenizer(checkpoint.tokenizer)
            assert_one_short_line(caught.value)


def assert_one_short_line(error: NextnError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 2000


def test_a_scaling_type_of_a_model_makes_no_long_message(tmp_path: Path) -> None:
    keys: dict[str, float | str] = {"rope__scaling__type": LONG, "rope__scaling__factor": 2.0}
    with open_small(tmp_path, "llama", **keys) as checkpoint, pytest.raises(NextnError) as caught:
        load_model_plan(checkpoint)
    assert_one_short_line(caught.value)


GIGABYTES = 4 << 30
SPARSE = {
    "strings": (entry("k", ARRAY, u32(STRING) + u64(1 << 28)), "k: an array of 268435456 elements"),
    "numbers": (entry("k", ARRAY, u32(U8) + u64(1 << 30)), "k: an array of 1073741824 elements"),
    "text": (entry("k", STRING, u64(1 << 28)), "k: a string of 268435456 bytes"),
}


@pytest.mark.parametrize("name", SPARSE)
def test_a_sparse_file_cannot_take_time_or_memory(tmp_path: Path, name: str) -> None:
    claim, message = SPARSE[name]
    path = tmp_path / "sparse.gguf"
    path.write_bytes(GgufBytes(metadata=[ARCHITECTURE, claim], tensors=[], data=b"").build())
    os.truncate(path, GIGABYTES)
    assert_refused_cheaply(path, message)


def test_the_metadata_of_a_sparse_file_is_bounded_in_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_METADATA_BYTES", 4 << 20)
    # Each of the 64 arrays is allowed by itself.
    path = tmp_path / "sparse.gguf"
    head = GgufBytes(metadata=[ARCHITECTURE], metadata_count=65, tensors=[], data=b"", alignment=1)
    with path.open("wb") as file:
        file.write(head.build())
        for index in range(64):
            file.write(entry(f"k{index}", ARRAY, u32(U8) + u64(1 << 17)))
            file.seek(1 << 17, os.SEEK_CUR)
        file.truncate()
    assert_refused_cheaply(path, "the metadata is larger than 4 MiB")


def assert_refused_cheaply(path: Path, message: str) -> None:
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(FileFormatError, match=message):
            open_checkpoint(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 5
    assert peak < 16 << 20
