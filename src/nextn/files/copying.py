"""Copies a range of one file into another: in the kernel where that is possible, without holes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO, Final

from nextn.errors import SourceError

_BYTES_PER_CALL: Final = 64 << 20  # between two calls Ctrl-C is heard, and progress is told
_BUFFER_BYTES: Final = 1 << 19  # fits into the processor's cache; larger ones are slower
_WRITE_BEHIND_BYTES: Final = 16 << 20
_PAGE_BYTES: Final = 4096
# What the kernel says where it cannot copy between two files by itself.
_CANNOT: Final = (
    *(errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF),
    errno.ETXTBSY,
)


class WriteBehind:
    """Lets the disk begin to store a file while it is written, so that fsync has little left to do.

    A thread asks for it, since asking waits until the disk has taken the bytes over.

    Args:
        file: what is written from its beginning to its end; it is closed after the context.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begun = 0
        self._ranges: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._thread = Thread(target=self._ask)

    def __enter__(self) -> WriteBehind:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ranges.put(None)
        self._thread.join()

    def advance(self) -> None:
        """Store what was written since the last time, if it is enough by now."""
        end = self._file.tell()
        if end - self._begun >= _WRITE_BEHIND_BYTES:
            self._file.flush()
            self._ranges.put((self._begun, end - self._begun))
            self._begun = end

    def _ask(self) -> None:
        while (asked := self._ranges.get()) is not None:
            # Linux starts to store what it is advised not to keep; it keeps what is not yet stored.
            with suppress(OSError, AttributeError):  # advice that a system does not take
                os.posix_fadvise(self._file.fileno(), *asked, os.POSIX_FADV_DONTNEED)


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
    # The kernel is slower than a small buffer where pages would have to be put together from two.
    by_kernel = hasattr(os, "copy_file_range") and (offset - target_offset) % _PAGE_BYTES == 0
    buffer = memoryview(b"")
    target.seek(target_offset)
    while count:
        copied = _copy_in_kernel(source, offset, count, target) if by_kernel else 0
        if not copied:
            by_kernel = False
            buffer = buffer or memoryview(bytearray(min(_BUFFER_BYTES, count)))
            copied = _copy_by_buffer(source, offset, buffer[:count], target)
        offset, count = offset + copied, count - copied
        if told is not None:
            told(copied)


def _copy_by_buffer(source: BinaryIO, offset: int, buffer: memoryview, target: BinaryIO) -> int:
    """Bytes that were copied to the target's position: mostly as many as fit into the buffer.

    The first are fewer, so that all others begin at multiples of the buffer's size: where these are
    large powers of two, Linux keeps them in large pages, which cost less.
    """
    most = _BUFFER_BYTES - target.tell() % _BUFFER_BYTES
    copied = os.preadv(source.fileno(), [buffer[:most]], offset)
    if not copied:
        name = Path(os.fsdecode(source.name))
        raise SourceError(f"{name}: became shorter while it was copied")
    target.write(buffer[:copied])
    target.flush()
    return copied


def _copy_in_kernel(source: BinaryIO, offset: int, count: int, target: BinaryIO) -> int:
    """Bytes that were copied to the target's position; 0 if the kernel cannot."""
    most, begin = min(count, _BYTES_PER_CALL), target.tell()
    try:
        copied = os.copy_file_range(source.fileno(), target.fileno(), most, offset, begin)
    except OSError as error:
        if error.errno in _CANNOT:
            return 0
        raise
    target.seek(begin + copied)
    return copied
