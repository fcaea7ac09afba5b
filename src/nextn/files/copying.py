"""Copies a range of one file into another: in the kernel where that is possible, without holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from nextn.errors import SourceError

_BYTES_PER_CALL: Final = 64 << 20  # between two calls Ctrl-C is heard, and progress is told
_BUFFER_BYTES: Final = 4 << 20
# What the kernel says where it cannot copy between two files by itself.
_CANNOT: Final = (
    *(errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF),
    errno.ETXTBSY,
)


def data_ranges(file: BinaryIO, offset: int, count: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that are stored: (offset, bytes). The rest are holes, which read as 0.

    Where the system does not know about holes, this is the whole range.
    """
    end = offset + count
    while offset < end:
        start, stop = _next_data(file.fileno(), offset, end)
        if start < end:
            yield start, stop - start
        offset = stop


def copy_range(
    source: BinaryIO,
    offset: int,
    count: int,
    target: BinaryIO,
    told: Callable[[int], None] | None = None,
) -> None:
    """Append a range of `source` to `target`; what is a hole there becomes one here.

    A hole at the end of `target` is not part of it before more is written, or it is truncated to
    its position.

    Args:
        source: an open file without a buffer; its position is not used.
        offset: of the first byte.
        count: bytes.
        target: where to; its position is moved behind the copy.
        told: called with numbers of bytes as they are copied, holes included.

    Raises:
        SourceError: the source became shorter than it was.
        OSError: it cannot be read, or the target not be written.
    """
    target.flush()
    begin = target.tell()
    done = 0
    for start, size in data_ranges(source, offset, count):
        skipped = start - offset - done
        if told is not None and skipped:
            told(skipped)
        _copy_data(source, start, size, target, begin + start - offset, told)
        done = start + size - offset
    if told is not None and done < count:
        told(count - done)
    target.seek(begin + count)


def _next_data(descriptor: int, offset: int, end: int) -> tuple[int, int]:
    """The first stored bytes from `offset` on: start and stop, both `end` if there are none."""
    if not hasattr(os, "SEEK_DATA"):
        return offset, end
    try:
        start = os.lseek(descriptor, offset, os.SEEK_DATA)
        stop = os.lseek(descriptor, start, os.SEEK_HOLE)
    except OSError as error:
        # No more data; also beyond the end of the file, which the copying would notice.
        if error.errno == errno.ENXIO and os.fstat(descriptor).st_size >= end:
            return end, end
        return offset, end
    return min(start, end), min(stop, end)


def _copy_data(
    source: BinaryIO,
    offset: int,
    count: int,
    target: BinaryIO,
    target_offset: int,
    told: Callable[[int], None] | None,
) -> None:
    by_kernel = hasattr(os, "copy_file_range")
    buffer = memoryview(b"")
    while count:
        copied = 0
        if by_kernel:
            copied = _copy_in_kernel(source, offset, count, target, target_offset)
            by_kernel = copied > 0
        if not by_kernel:
            buffer = buffer or memoryview(bytearray(min(_BUFFER_BYTES, count)))
            copied = os.preadv(source.fileno(), [buffer[: min(len(buffer), count)]], offset)
            if not copied:
                name = Path(os.fsdecode(source.name))
                raise SourceError(f"{name}: became shorter while it was copied")
            target.seek(target_offset)
            target.write(buffer[:copied])
            target.flush()
        offset, target_offset, count = offset + copied, target_offset + copied, count - copied
        if told is not None:
            told(copied)


def _copy_in_kernel(
    source: BinaryIO, offset: int, count: int, target: BinaryIO, target_offset: int
) -> int:
    """Bytes that were copied; 0 if the kernel cannot."""
    most = min(count, _BYTES_PER_CALL)
    try:
        return os.copy_file_range(source.fileno(), target.fileno(), most, offset, target_offset)
    except OSError as error:
        if error.errno in _CANNOT:
            return 0
        raise
