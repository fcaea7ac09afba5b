"""Arrays of strings against a naive reader of their layout."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.errors import FileFormatError
from nextn.files.gguf.cursor import Cursor, HeaderContinuesError
from nextn.files.gguf.values import LazyStrings, read_value
from tests.support.gguf_bytes import ARRAY, STRING, string, u32, u64

PATH = Path("model.gguf")
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=12)


def array_of(raw: list[bytes]) -> bytes:
    return u32(ARRAY) + u32(STRING) + u64(len(raw)) + b"".join(map(string, raw))


def read(data: bytes, size: int | None = None) -> tuple[LazyStrings, int]:
    cursor = Cursor(PATH, memoryview(data), size)
    _, value = read_value(cursor, "key")
    assert isinstance(value, LazyStrings)
    return value, cursor.position


@given(TEXTS, st.binary(max_size=9))
def test_strings_are_read_up_to_what_follows(texts: list[str], rest: bytes) -> None:
    data = array_of([text.encode() for text in texts])
    found, end = read(data + rest)
    assert end == len(data)
    assert found.decode() == texts
    assert found.joined() == "\0".join(texts)
    for most in range(len(texts) + 2):
        assert found.decode(most) == texts[:most]


@given(TEXTS, st.data())
def test_a_file_that_ends_inside_is_refused(texts: list[str], data: st.DataObject) -> None:
    whole = array_of([text.encode() for text in texts])
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(FileFormatError):
        read(cut)
    # Of a file that is read from its beginning on, more is asked for, and not more than there is.
    with pytest.raises(HeaderContinuesError) as error:
        read(cut, len(whole))
    assert len(cut) < error.value.needed <= len(whole)


@pytest.mark.parametrize("length", [2, (1 << 24) + 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 8])
def test_a_length_beyond_the_file_is_named(length: int) -> None:
    data = array_of([b"a", b"b", b"c"])
    last = len(data) - 9
    data = data[:last] + u64(length) + data[last + 8 :]
    with pytest.raises(FileFormatError, match=r"key\[2\]: a string of \d+ bytes does not fit"):
        read(data)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80"])
def test_the_string_that_is_not_utf_8_is_named(bad: bytes) -> None:
    found, _ = read(array_of([b"a", b"\xc3\xa9", bad, b"\xa9"]))
    assert found.decode(2) == ["a", "é"]
    for ask in (found.decode, found.joined):
        with pytest.raises(FileFormatError, match=r"key\[2\]: is not valid UTF-8"):
            ask()
