"""A tensor of a safetensors file: bytes that stay on disk until they are touched."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError
from nextn.files.safetensors.dtypes import Dtype
from nextn.files.safetensors.header import Entry


class StoredTensor:
    """A tensor as it is stored.

    Attributes:
        path: the file that holds it.
        name: name in the file.
        dtype: type of its elements.
        shape: as in the file; a scalar has none.
        nbytes: size in the file.
        offset: of its first byte in the file.
    """

    def __init__(self, entry: Entry, path: Path, mapping: mmap.mmap) -> None:
        self.path = path
        self.name = entry.name
        self.dtype: Dtype = entry.dtype
        self.shape = entry.shape
        self.nbytes = entry.nbytes
        self.offset = entry.offset
        self._mapping = mapping

    @property
    def array(self) -> NDArray[np.generic]:
        """The elements as `dtype.storage`, of `shape`: a read-only view of the mapped file."""
        count = self.nbytes // self.dtype.bytes
        if not count:
            return np.empty(self.shape, self.dtype.storage)
        return np.frombuffer(self._mapping, self.dtype.storage, count, self.offset).reshape(
            self.shape
        )

    def decode(self) -> NDArray[np.float32]:
        """All values: float32, of `shape`."""
        return self.dtype.decode(self.array)

    def integers(self) -> NDArray[np.int64]:
        """All values of a tensor of integers: int64, of `shape`.

        Raises:
            FileFormatError: it holds floats.
        """
        if self.dtype.is_float:
            self.fail(f"holds {self.dtype.name}, not integers")
        return self.array.astype(np.int64)

    def release(self) -> None:
        """Let the system take back the memory of the bytes that were read; they stay readable."""
        if self.nbytes and hasattr(mmap, "MADV_DONTNEED"):
            begin = self.offset // mmap.PAGESIZE * mmap.PAGESIZE
            length = self.offset + self.nbytes - begin
            self._mapping.madvise(mmap.MADV_DONTNEED, begin, length)

    def fail(self, reason: str) -> NoReturn:
        """Raise the error for this tensor.

        Raises:
            FileFormatError: always.
        """
        raise self.error(reason)

    def error(self, reason: str) -> FileFormatError:
        """The error for this tensor, to be raised."""
        return FileFormatError(self.path, f"tensor {self.name}", reason)
