"""Metadata values of a GGUF file: numbers, truth values, strings, and arrays of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nextn import _native
from nextn.errors import FileFormatError
from nextn.files.gguf import limits
from nextn.files.gguf.cursor import Cursor

BOOL = 7
STRING = 8
ARRAY = 9
U32 = 4
# Value type of a number -> its NumPy type; truth values are bytes in the file.
NUMBERS: dict[int, np.dtype[np.generic]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    U32: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    BOOL: np.dtype("<u1"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}


@dataclass(frozen=True, slots=True)
class EncodedValue:
    """A metadata value byte for byte as it stands in a file: its type, then what follows.

    So it can be copied into another file with the width of its integers, and the type of its
    elements.

    Attributes:
        data: the bytes; of a value that was read, a view of the mapped file.
    """

    data: bytes | memoryview

    @property
    def kind(self) -> int:
        """Number of the value type."""
        return int.from_bytes(self.data[:4], "little")


class LazyStrings:
    """An array of strings whose lengths have been checked; decoded when asked for."""

    def __init__(self, path: Path, key: str, data: memoryview, count: int) -> None:
        self._path = path
        self._key = key
        self._data = data
        self._count = count

    def __len__(self) -> int:
        return self._count

    @property
    def encoded(self) -> memoryview:
        """The strings as they stand in the file, each behind its length (u64)."""
        return self._data

    def decode(self, most: int | None = None) -> list[str]:
        """All strings, or the first `most`.

        Raises:
            FileFormatError: a string that is not UTF-8. Vocabularies hold only valid UTF-8, even
                where tokens are pieces of characters: these are spelled in a byte alphabet, or as
                `<0xE2>`.
        """
        if most is None or most >= self._count:
            text = self.joined()
            # Where no string holds a NUL itself.
            if text.count("\0") == self._count - 1:
                return text.split("\0")
        return list(islice(self._each(), most))

    def joined(self) -> str:
        """All strings with a NUL between them.

        Raises:
            FileFormatError: as `decode`.
        """
        data = _native.join_strings(np.frombuffer(self._data, np.uint8), self._count)
        text = _decoded(data)
        return "\0".join(self._each()) if text is None else text  # which names the string

    def _each(self) -> Iterator[str]:
        position, unpack = 0, struct.Struct("<Q").unpack_from
        for index in range(self._count):
            start = position + 8
            position = start + unpack(self._data, position)[0]
            text = _decoded(bytes(self._data[start:position]))
            if text is None:
                raise FileFormatError(self._path, f"{self._key}[{index}]", "is not valid UTF-8")
            yield text


def _decoded(data: bytes) -> str | None:
    """Text; None if it is not valid UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


MetadataValue: TypeAlias = "int | float | bool | str | NDArray[np.generic] | LazyStrings"


def read_value(cursor: Cursor, key: str) -> tuple[int, MetadataValue]:
    """Read the type and the value of the metadata entry `key`.

    Returns:
        The number of the value type in the file, and the value.

    Raises:
        FileFormatError: an unknown type, a nested array, or a value that does not fit in the file.
    """
    kind = cursor.u32(key)
    if kind == STRING:
        return kind, cursor.text(key, most=limits.MOST_STRING_BYTES)
    if kind == ARRAY:
        return kind, _read_array(cursor, key)
    if kind not in NUMBERS:
        cursor.fail(key, f"has the unknown value type {kind}")
    value: int | float | bool = _read_numbers(cursor, key, kind, 1)[0].item()
    return kind, value


def _read_array(cursor: Cursor, key: str) -> MetadataValue:
    kind = cursor.u32(key)
    count = cursor.u64(key)
    if kind == ARRAY:
        cursor.fail(key, "is an array of arrays, which nextn does not read")
    if kind != STRING and kind not in NUMBERS:
        cursor.fail(key, f"has the unknown element type {kind}")
    width = 8 if kind == STRING else NUMBERS[kind].itemsize
    if count > cursor.left // width:
        cursor.fail(key, f"an array of {count} elements does not fit in the file; it is corrupt")
    if count > limits.MOST_ARRAY_ELEMENTS:
        cursor.fail(
            key, f"an array of {count} elements; at most {limits.MOST_ARRAY_ELEMENTS} are allowed"
        )
    if kind != STRING:
        return _read_numbers(cursor, key, kind, count)
    start = cursor.position
    cursor.skip_strings(count, key, most=limits.MOST_STRING_BYTES)
    return LazyStrings(cursor.path, key, cursor.data[start : cursor.position], count)


def _read_numbers(cursor: Cursor, key: str, kind: int, count: int) -> NDArray[np.generic]:
    dtype = NUMBERS[kind]
    # A copy, so that the values outlive the mapping of the file.
    values = np.frombuffer(cursor.take(count * dtype.itemsize, key), dtype).copy()
    if kind == BOOL:
        if values.size and int(values.max()) > 1:
            cursor.fail(key, "holds a truth value other than 0 and 1")
        return values.astype(np.bool_)
    return values
