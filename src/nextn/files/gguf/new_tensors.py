"""Tensors as they will stand in a new file: bytes in memory, made in pieces, or copied."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nextn.files.block_formats import BlockType
from nextn.files.copying import copy_range, data_ranges
from nextn.files.tensor import Tensor

Piece: TypeAlias = bytes | bytearray | memoryview | NDArray[np.uint8]
Told: TypeAlias = Callable[[int], None]
"""Called with numbers of bytes as they are written."""


class NewTensor(Protocol):
    """A tensor of a file that is yet to be written."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, rows first."""

    @property
    def block_type(self) -> BlockType:
        """Format of its bytes."""

    @property
    def source(self) -> Path | None:
        """The file that its bytes come from, if it is known; it must not be written over."""

    def stored_bytes(self, files: OpenFiles) -> int:
        """Bytes that it takes on the disk: holes of a source take none."""

    def write(self, file: BinaryIO, files: OpenFiles, told: Told) -> None:
        """Append all bytes to a file."""


class OpenFiles:
    """Sources that stay open while tensors are copied from them."""

    def __init__(self) -> None:
        self._files: dict[Path, BinaryIO] = {}

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def open(self, path: Path) -> BinaryIO:
        """The open file, without a buffer."""
        if path not in self._files:
            self._files[path] = path.open("rb", buffering=0)
        return self._files[path]


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor in memory.

    Attributes:
        shape: rows first.
        block_type: format of the bytes.
        data: uint8 [...], all bytes in order.
    """

    shape: tuple[int, ...]
    block_type: BlockType
    data: NDArray[np.uint8]

    @property
    def source(self) -> Path | None:
        """None: it is in memory."""
        return None

    def stored_bytes(self, files: OpenFiles) -> int:
        """See `NewTensor.stored_bytes`."""
        return self.data.nbytes

    def write(self, file: BinaryIO, files: OpenFiles, told: Told) -> None:
        """See `NewTensor.write`."""
        file.write(np.ascontiguousarray(self.data).data)
        told(self.data.nbytes)


@dataclass(frozen=True, slots=True)
class TensorPieces:
    """A tensor that is made piece by piece while it is written, so that it is never in memory.

    Attributes:
        shape: rows first.
        block_type: format of the bytes.
        pieces: called once, when its turn in the file has come; gives all bytes in order.
    """

    shape: tuple[int, ...]
    block_type: BlockType
    pieces: Callable[[], Iterable[Piece]]

    @property
    def source(self) -> Path | None:
        """None: it is made."""
        return None

    def stored_bytes(self, files: OpenFiles) -> int:
        """See `NewTensor.stored_bytes`."""
        return tensor_bytes(self)

    def write(self, file: BinaryIO, files: OpenFiles, told: Told) -> None:
        """See `NewTensor.write`."""
        for piece in self.pieces():
            data = np.ascontiguousarray(piece).data if isinstance(piece, np.ndarray) else piece
            file.write(data)
            told(memoryview(data).nbytes)


@dataclass(frozen=True, slots=True)
class TensorCopy:
    """A tensor whose bytes are copied from another file as they are.

    Attributes:
        shape: rows first.
        block_type: format of the bytes.
        path: the other file.
        offset: of the first byte there.
    """

    shape: tuple[int, ...]
    block_type: BlockType
    path: Path
    offset: int

    @classmethod
    def of(cls, tensor: Tensor) -> TensorCopy:
        """A copy of a tensor of an open checkpoint."""
        return cls(tensor.shape, tensor.block_type, tensor.path, tensor.offset)

    @property
    def source(self) -> Path | None:
        """The other file."""
        return self.path

    def stored_bytes(self, files: OpenFiles) -> int:
        """See `NewTensor.stored_bytes`."""
        file = files.open(self.path)
        return sum(size for _, size in data_ranges(file, self.offset, tensor_bytes(self)))

    def write(self, file: BinaryIO, files: OpenFiles, told: Told) -> None:
        """See `NewTensor.write`."""
        copy_range(files.open(self.path), self.offset, tensor_bytes(self), file, told)


def tensor_bytes(tensor: NewTensor) -> int:
    """Bytes of a tensor of this shape and format.

    Raises:
        ValueError: rows that are not whole blocks.
    """
    kind = tensor.block_type
    if not tensor.shape or min(tensor.shape) < 1 or tensor.shape[-1] % kind.elements:
        raise ValueError(f"[gguf] {kind.name} has no tensors of the shape {tensor.shape}")
    return math.prod(tensor.shape) // kind.elements * kind.bytes
