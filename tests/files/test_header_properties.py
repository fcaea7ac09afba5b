"""Damaged files: whatever bytes are changed, a file opens or is refused; nothing else happens."""

from __future__ import annotations

import math
import tempfile
from functools import cache
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.errors import NextnError
from nextn.files import open_checkpoint
from nextn.files.gguf import read_header
from tests.support.gguf_bytes import (
    ARCHITECTURE,
    F32,
    I32,
    STRING,
    U32,
    GgufBytes,
    array_entry,
    number,
    number_entry,
    string,
    tensor_entry,
    text_entry,
)
from tests.support.tiny_gguf import write_tiny_model

Q4_0 = 2
# Small enough that random changes meet every field.
SMALL = GgufBytes(
    metadata=[
        ARCHITECTURE,
        number_entry("general.alignment", U32, 32),
        text_entry("tokenizer.ggml.model", "gpt2"),
        array_entry("tokenizer.ggml.tokens", STRING, [string("a"), string("é")]),
        array_entry("tokenizer.ggml.merges", STRING, []),
        array_entry("tokenizer.ggml.token_type", I32, [number(I32, 1), number(I32, 3)]),
        array_entry("tokenizer.ggml.scores", F32, [number(F32, 0.5), number(F32, -1)]),
        number_entry("tokenizer.ggml.eos_token_id", U32, 1),
        number_entry("split.count", U32, 1),
    ],
    tensors=[tensor_entry("a.weight", [4, 2]), tensor_entry("b.weight", [64], Q4_0, 32)],
    data=bytes(range(96)),
).build()
INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]


@cache
def tiny_model() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        write_tiny_model(path, "llama", hidden=16, heads=1, kv_heads=1, layers=1, ffn=16)
        return path.read_bytes()


def opens_or_is_refused(content: bytes) -> None:
    """Open and read everything; the result may be wrong, but stays within the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.gguf"
        path.write_bytes(content)
        try:
            with open_checkpoint(path) as checkpoint:
                for tensor in checkpoint.tensors.values():
                    assert tensor.nbytes <= len(content)
                    assert tensor.decode().shape == tensor.shape
                tokenizer = checkpoint.tokenizer
                assert tokenizer.eos_id is None or tokenizer.eos_id < len(tokenizer.tokens)
        except NextnError as error:
            refusal = str(error)
        else:
            return
    assert "\n" not in refusal


changes = st.lists(
    st.tuples(
        st.integers(0, len(SMALL) - 1),
        st.one_of(st.sampled_from(INTERESTING), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=300, deadline=2000)
@given(changes)
def test_changed_bytes_never_break_the_reader(edits: list[tuple[int, int]]) -> None:
    content = bytearray(SMALL)
    for place, value in edits:
        content[place] = value
    opens_or_is_refused(bytes(content))


@settings(max_examples=150, deadline=2000)
@given(st.integers(0, len(SMALL) - 8), st.integers(0, 2**64 - 1))
def test_changed_words_never_break_the_reader(place: int, word: int) -> None:
    opens_or_is_refused(SMALL[:place] + word.to_bytes(8, "little") + SMALL[place + 8 :])


@settings(max_examples=60, deadline=2000)
@given(st.data())
def test_a_changed_real_header_never_breaks_the_reader(data: st.DataObject) -> None:
    content = bytearray(tiny_model())
    for _ in range(data.draw(st.integers(1, 8))):
        # The header of the tiny model takes about the first half.
        place = data.draw(st.integers(0, len(content) // 2))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    opens_or_is_refused(bytes(content))


def test_every_truncation_is_refused() -> None:
    # All 64 + 36 bytes of data belong to a tensor, apart from padding behind the second.
    whole = read_header(Path("small.gguf"), memoryview(SMALL)).tensors.values()
    end = max(entry.offset + entry.nbytes for entry in whole)
    assert end <= len(SMALL)
    for size in range(end):
        try:
            read_header(Path("short.gguf"), memoryview(SMALL[:size]))
        except NextnError:
            continue
        raise AssertionError(f"{size} bytes were taken for a whole file")


@settings(max_examples=60, deadline=2000)
@given(st.integers(0, 2**20))
def test_a_truncated_real_file_is_refused(size: int) -> None:
    content = tiny_model()
    opens_or_is_refused(content[: size % len(content)])


@settings(max_examples=150, deadline=2000)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    gaps=st.lists(st.integers(0, 2), min_size=1, max_size=4),
)
def test_any_layout_without_overlap_is_read(sizes: list[int], gaps: list[int]) -> None:
    # Gaps between the tensors are allowed, and the list may be in any order.
    elements = math.prod(sizes)
    step = -(-elements * 4 // 32) * 32
    offsets, end = [], 0
    for gap in gaps:
        offsets.append(end + gap * 32)
        end = offsets[-1] + step
    tensors = [tensor_entry(f"t{n}", sizes, 0, offset) for n, offset in enumerate(offsets)]
    content = GgufBytes(tensors=tensors[::-1], data=bytes(end)).build()
    header = read_header(Path("layout.gguf"), memoryview(content))
    start = len(content) - end
    for number_, offset in enumerate(offsets):
        entry = header.tensors[f"t{number_}"]
        assert entry.shape == tuple(reversed(sizes))
        assert entry.offset == start + offset
        assert entry.nbytes == elements * 4
