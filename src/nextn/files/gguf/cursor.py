"""A position in a buffer from which typed values are read, never past the end."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NoReturn

import numpy as np

from nextn import _native
from nextn.errors import FileFormatError

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class HeaderContinuesError(Exception):
    """The part of a file that is there ends inside its header.

    Args:
        needed: bytes of the file that are needed at least to get further.
    """

    def __init__(self, needed: int) -> None:
        super().__init__(f"{needed} bytes are needed")
        self.needed = needed


class Cursor:
    """Reads little-endian values one after the other.

    Args:
        path: named in errors.
        data: the whole file, or its beginning.
        size: bytes of the whole file, if `data` is its beginning.
    """

    def __init__(self, path: Path, data: memoryview, size: int | None = None) -> None:
        self.path = path
        self.data = data
        self.size = len(data) if size is None else size
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes between the position and the end of the whole file."""
        return self.size - self.position

    def fail(self, field: str, reason: str) -> NoReturn:
        """Raise the error for a bad field.

        Raises:
            FileFormatError: always.
        """
        raise FileFormatError(self.path, field, reason)

    def take(self, count: int, field: str) -> memoryview:
        """The next `count` bytes.

        Raises:
            HeaderContinuesError: they are in the file, but not in `data`.
        """
        if count > self.left:
            self.fail(
                field,
                f"needs {count} bytes at offset {self.position}, but the file ends after "
                f"{self.left}; it is truncated or corrupt",
            )
        start = self.position
        if start + count > len(self.data):
            raise HeaderContinuesError(start + count)
        self.position += count
        return self.data[start : self.position]

    def u32(self, field: str) -> int:
        """An unsigned 32-bit integer."""
        value: int = _U32.unpack(self.take(4, field))[0]
        return value

    def u64(self, field: str) -> int:
        """An unsigned 64-bit integer."""
        value: int = _U64.unpack(self.take(8, field))[0]
        return value

    def text(self, field: str, *, most: int) -> str:
        """A string: u64 length, then UTF-8."""
        length = self.u64(field)
        if length > most:
            self.fail(field, f"a string of {length} bytes; at most {most} are allowed")
        raw = self.take(length, field)
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError as error:
            self.fail(field, f"is not valid UTF-8 (byte {error.start})")

    def name(self, field: str, *, most: int) -> str:
        """A key or the name of a tensor: not empty, and printable, since errors show it."""
        name = self.text(field, most=most)
        if not name:
            self.fail(field, "is empty")
        if not name.isprintable():
            self.fail(field, f"holds characters that cannot be printed: {name[:80]!a}")
        return name

    def skip_strings(self, count: int, field: str, *, most: int) -> None:
        """Step over `count` strings, checking their lengths."""
        there = np.frombuffer(self.data, np.uint8, offset=self.position)
        whole, size = _native.skip_strings(there, count, most)
        self.position += size
        if whole == count:
            return
        # The first that is not: read like any other value, to say what is wrong with it.
        length = self.u64(f"{field}[{whole}]")
        if length > most or length > self.left:
            self.fail(
                f"{field}[{whole}]",
                f"a string of {length} bytes does not fit in the file; it is corrupt",
            )
        raise HeaderContinuesError(self.position + length)
