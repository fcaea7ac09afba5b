"""Tensors that are encoded anew while they are written, some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, SourceError
from nextn.files.block_encoding import Q4_0, BadValueError, reencode, usable_importance
from nextn.files.block_formats import BlockType
from nextn.files.gguf.writer import NewTensor, TensorBytes, TensorCopy, TensorPieces
from nextn.files.imatrix import InputSquares

Bytes = NDArray[np.uint8]

_VALUES_PER_PIECE: Final = 1 << 23


@dataclass(frozen=True, slots=True)
class Encoder:
    """How tensors are encoded.

    Attributes:
        path: the model that they come from, for messages.
        threads: threads that compute.
        lattice: names of tensors that lie on the lattice of Q4_0, which it then keeps exactly.
    """

    path: Path
    threads: int
    lattice: Collection[str] = ()

    def encoded(
        self, name: str, tensor: NewTensor, target: BlockType, inputs: InputSquares | None
    ) -> TensorPieces:
        """A tensor in another format, made when it is written.

        Args:
            name: of the tensor, for messages.
            tensor: what it is made of, in any format that nextn reads. If it comes in pieces, they
                may be of any size.
            target: the new format.
            inputs: the tensor's entry in an importance matrix.
        """

        def pieces() -> Iterator[Bytes]:
            return self._pieces(name, tensor, target, inputs)

        return TensorPieces(tensor.shape, target, pieces)

    def _pieces(
        self, name: str, tensor: NewTensor, target: BlockType, inputs: InputSquares | None
    ) -> Iterator[Bytes]:
        columns = tensor.shape[-1]
        rows_per_matrix = tensor.shape[-2] if len(tensor.shape) > 1 else 1
        step = max(1, min(rows_per_matrix, _VALUES_PER_PIECE // columns))
        row_bytes = tensor.block_type.row_bytes(columns)
        source = _Regrouped(self.path, name, pieces_of(tensor))
        for matrix in range(math.prod(tensor.shape[:-2])):
            mean = None if inputs is None else inputs.mean(matrix)
            importance = None if mean is None else usable_importance(mean)
            for start in range(0, rows_per_matrix, step):
                count = min(step, rows_per_matrix - start)
                try:
                    yield reencode(
                        tensor.block_type,
                        source.take(count * row_bytes),
                        target,
                        columns,
                        importance=importance,
                        threads=self.threads,
                        lattice=target == Q4_0 and name in self.lattice,
                    )
                except BadValueError as error:
                    row = matrix * rows_per_matrix + start + error.row
                    raise FileFormatError(
                        self.path,
                        f"tensor {name}",
                        f"row {row} holds values that are NaN, infinite or too large for "
                        f"{target.name}",
                    ) from None


class _Regrouped:
    """Takes as many bytes at a time as are wanted from pieces of any size."""

    def __init__(self, path: Path, name: str, pieces: Iterable[Bytes]) -> None:
        self._path = path
        self._name = name
        self._pieces = iter(pieces)
        self._left: Bytes = np.empty(0, np.uint8)

    def take(self, count: int) -> Bytes:
        """The next bytes.

        Raises:
            SourceError: there are not so many.
        """
        parts: list[Bytes] = []
        missing = count
        while missing:
            if not len(self._left):
                piece = next(self._pieces, None)
                if piece is None:
                    raise SourceError(f"{self._path}: tensor {self._name}: the file became shorter")
                self._left = piece
            part, self._left = self._left[:missing], self._left[missing:]
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def pieces_of(tensor: NewTensor) -> Iterator[Bytes]:
    """All bytes of a tensor, uint8 [n] at a time."""
    match tensor:
        case TensorBytes():
            yield np.ascontiguousarray(tensor.data).reshape(-1)
        case TensorPieces():
            for piece in tensor.pieces():
                if isinstance(piece, np.ndarray):
                    yield np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
                else:
                    yield np.frombuffer(piece, np.uint8)
        case TensorCopy():
            # Read and not mapped: the pages of a mapping would stay in memory.
            left = tensor.block_type.row_bytes(math.prod(tensor.shape))
            with tensor.path.open("rb", buffering=0) as file:
                file.seek(tensor.offset)
                while left:
                    piece = np.fromfile(file, np.uint8, min(left, _VALUES_PER_PIECE))
                    if not len(piece):
                        return
                    left -= len(piece)
                    yield piece
        case _:
            raise TypeError(f"[quantise] {type(tensor).__name__} is no tensor that can be read")
