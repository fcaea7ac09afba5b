"""A tensor of a checkpoint: name, shape, format, and bytes that stay on disk until touched."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files.block_formats import COPIED_TYPES, I32, BlockType, decode, first_bad_block
from nextn.files.gguf import TensorEntry

_BYTES_PER_CHECK = 1 << 22


class Tensor:
    """A tensor of a checkpoint; its bytes are mapped, and read when touched.

    Attributes:
        path: the file that holds it.
        name: name in the file.
        shape: rows first, the contraction dimension last.
        block_type: format of its bytes.
        nbytes: size in the file.
        offset: of its first byte in the file.
        mapped: whether the bytes are a read-only mapping of a file, so that their pages may be
            dropped from memory at any time, and come back when they are touched.
    """

    mapped = True

    def __init__(self, entry: TensorEntry, path: Path, mapping: mmap.mmap) -> None:
        self.path = path
        self.name = entry.name
        self.shape = entry.shape
        self.block_type: BlockType = entry.block_type
        self.nbytes = entry.nbytes
        self.offset = entry.offset
        self._mapping = mapping

    @property
    def data(self) -> NDArray[np.uint8]:
        """The bytes: uint8 [nbytes], a read-only view of the mapped file."""
        return np.frombuffer(self._mapping, np.uint8, self.nbytes, self.offset)

    def decode(self) -> NDArray[np.float32]:
        """All values: float32, of `shape`.

        Raises:
            FileFormatError: they are integers, which no weight is made of.
            UnsupportedModelError: they have a format that nextn can only copy.
        """
        self._check_weights()
        rows = self.data.reshape(math.prod(self.shape[:-1]), -1)
        return decode(self.block_type, rows).reshape(self.shape)

    def decode_rows(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Some rows of a matrix.

        Args:
            ids: integers [n], each from 0 to shape[0] - 1.

        Returns:
            float32 [n, shape[1]].

        Raises:
            NextnError: as `decode`.
        """
        self._check_weights()
        rows = self.data.reshape(self.shape[0], -1)
        return decode(self.block_type, rows[np.asarray(ids, np.intp)])

    def integers(self) -> NDArray[np.int32]:
        """All values of a list of token ids: int32, of `shape`.

        Raises:
            FileFormatError: it has another block format.
        """
        if self.block_type != I32:
            raise FileFormatError(
                self.path,
                f"tensor {self.name}",
                f"has the block format {self.block_type.name}, but must be {I32.name}",
            )
        return self.data.view("<i4").reshape(self.shape)

    def check_finite(self) -> None:
        """Read all bytes and check that no scale, or value without one, is NaN or infinite.

        Integers never are.

        Raises:
            FileFormatError: the first block that holds such a scale.
            UnsupportedModelError: as `decode`.
        """
        if self.block_type == I32:
            return
        self._check_weights()
        blocks = self.data.reshape(-1, self.block_type.bytes)
        step = _BYTES_PER_CHECK // self.block_type.bytes
        for start in range(0, len(blocks), step):
            bad = first_bad_block(self.block_type, blocks[start : start + step])
            if bad is not None:
                raise FileFormatError(
                    self.path,
                    f"tensor {self.name}",
                    f"block {start + bad} holds NaN or infinity; the file is damaged",
                )

    def _check_weights(self) -> None:
        if self.block_type.id in COPIED_TYPES:
            raise UnsupportedModelError(
                f"{self.path}: tensor {self.name}: nextn copies tensors in the block format "
                f"{self.block_type.name}, but cannot read them"
            )
        if self.block_type == I32:
            raise FileFormatError(
                self.path, f"tensor {self.name}", "is a list of integers, not of weights"
            )
