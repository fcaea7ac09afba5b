"""Importance matrices: what the inputs of a model's matrices are like, as GGUF files.

The form is llama.cpp's: for a matrix NAME, `NAME.in_sum2` holds the sum of the squares of each
input over all tokens, and `NAME.counts` over how many tokens; for stacks of experts, of each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError
from nextn.files.block_encoding import F32, encode
from nextn.files.gguf import LazyStrings, open_parts
from nextn.files.gguf.writer import NewTensor, NewValue, TensorBytes, write_gguf
from nextn.files.tensor import Tensor

_SQUARES: Final = ".in_sum2"
_COUNTS: Final = ".counts"
_KIND: Final = "imatrix"
_TYPE_KEY: Final = "general.type"
_DATASETS_KEY: Final = "imatrix.datasets"
_CHUNK_COUNT_KEY: Final = "imatrix.chunk_count"
_CHUNK_SIZE_KEY: Final = "imatrix.chunk_size"
# Those of the largest models, with tens of thousands of experts, have 2 GB. A sparse file of any
# size costs its author nothing, but to check it takes time.
_MOST_BYTES: Final = 8 << 30
_MOST_DATASETS: Final = 1024
_MOST_DATASET_CHARACTERS: Final = 1 << 16  # their names go into the files that are quantised
_MOST_COUNT: Final = (1 << 32) - 1
_VALUES_PER_CHECK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class InputSquares:
    """The inputs of a matrix, or of each of a stack of them.

    Attributes:
        sums: float32 [matrices, columns], sums of squares.
        counts: float32 [matrices], tokens that they are of.
    """

    sums: NDArray[np.float32]
    counts: NDArray[np.float32]

    def mean(self, matrix: int) -> NDArray[np.float64] | None:
        """Mean squares of a matrix's inputs: float64 [columns]; None if it never had any."""
        count = float(self.counts[matrix])
        if count <= 0:
            return None
        mean: NDArray[np.float64] = self.sums[matrix].astype(np.float64) / count
        return mean


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """The inputs of a model's matrices over some text.

    Attributes:
        path: the file.
        entries: by the name of the matrix.
        datasets: the texts.
        chunk_count: pieces of text.
        chunk_size: tokens of each.
    """

    path: Path
    entries: Mapping[str, InputSquares]
    datasets: Sequence[str]
    chunk_count: int
    chunk_size: int


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Read an importance matrix.

    Raises:
        SourceError: no such file, or it cannot be read.
        FileFormatError: it is something else, or is damaged.
    """
    try:
        parts = open_parts(path)
    except FileFormatError as error:
        if error.field != "magic":
            raise
        raise FileFormatError(
            path,
            error.field,
            "is not a GGUF file; a matrix of the older form (.dat) is converted by "
            "`llama-imatrix --in-file OLD -o NEW.gguf`",
        ) from None
    metadata = parts[0].header.metadata
    kind = metadata.get(_TYPE_KEY)
    if not isinstance(kind, str) or kind != _KIND:
        raise FileFormatError(path, _TYPE_KEY, f"is not {_KIND!r}; this is another kind of file")
    tensors = {
        name: Tensor(entry, part.path, part.mapping)
        for part in parts
        for name, entry in part.header.tensors.items()
    }
    if sum(tensor.nbytes for tensor in tensors.values()) > _MOST_BYTES:
        raise FileFormatError(path, "tensors", f"are larger than {_MOST_BYTES >> 30} GiB; corrupt")
    names = [name.removesuffix(_SQUARES) for name in tensors if name.endswith(_SQUARES)]
    entries = {name: _read_entry(path, name, tensors) for name in names}
    if not entries:
        raise FileFormatError(path, "tensors", f"none is called NAME{_SQUARES}")
    return ImportanceMatrix(
        path,
        entries,
        _datasets(path, metadata.get(_DATASETS_KEY)),
        _count(path, metadata.get(_CHUNK_COUNT_KEY, 0), _CHUNK_COUNT_KEY),
        _count(path, metadata.get(_CHUNK_SIZE_KEY, 0), _CHUNK_SIZE_KEY),
    )


def write_imatrix(matrix: ImportanceMatrix, *, inputs: Sequence[Path] = ()) -> None:
    """Write an importance matrix to its path; an existing file is replaced.

    Args:
        matrix: what to write.
        inputs: files that must not be written over.

    Raises:
        OutputError: the path is one of the inputs, or there is no space.
        OSError: it cannot be written; nothing is left of it.
    """
    tensors: dict[str, NewTensor] = {}
    for name, entry in sorted(matrix.entries.items()):
        sums, counts = np.atleast_2d(entry.sums), entry.counts.reshape(-1, 1)
        tensors[name + _SQUARES] = TensorBytes(sums.shape, F32, encode(F32, sums))
        tensors[name + _COUNTS] = TensorBytes(counts.shape, F32, encode(F32, counts))
    metadata: dict[str, NewValue] = {
        _TYPE_KEY: _KIND,
        _CHUNK_COUNT_KEY: matrix.chunk_count,
        _CHUNK_SIZE_KEY: matrix.chunk_size,
    }
    if matrix.datasets:  # GGUF lists have at least one element
        metadata[_DATASETS_KEY] = list(matrix.datasets)
    write_gguf(matrix.path, metadata, tensors, inputs=inputs)


def _read_entry(path: Path, name: str, tensors: Mapping[str, Tensor]) -> InputSquares:
    if name + _COUNTS not in tensors:
        raise FileFormatError(path, f"tensor {name}{_COUNTS}", "is missing")
    sums, counts = _values(tensors[name + _SQUARES]), _values(tensors[name + _COUNTS]).reshape(-1)
    sums = sums.reshape(-1, sums.shape[-1])
    if len(sums) != len(counts):
        raise FileFormatError(
            path, f"tensor {name}{_COUNTS}", f"has {len(counts)} values for {len(sums)} matrices"
        )
    return InputSquares(sums, counts)


def _values(tensor: Tensor) -> NDArray[np.float32]:
    """All values: a view of the file, checked some at a time, so that nothing stays in memory."""
    field = f"tensor {tensor.name}"
    if tensor.block_type != F32:
        raise FileFormatError(
            tensor.path, field, f"has the block format {tensor.block_type.name}, but must be F32"
        )
    values = tensor.data.view("<f4")
    for start in range(0, len(values), _VALUES_PER_CHECK):
        piece = values[start : start + _VALUES_PER_CHECK]
        # NaN compares as false.
        if not ((piece >= 0) & (piece < np.inf)).all():
            raise FileFormatError(
                tensor.path, field, "holds values that are negative or not finite"
            )
    return values.reshape(tensor.shape)


def _datasets(path: Path, value: object) -> list[str]:
    if not isinstance(value, LazyStrings):
        return []
    if len(value) <= _MOST_DATASETS:
        names = value.decode()
        if sum(map(len, names)) <= _MOST_DATASET_CHARACTERS:
            return names
    raise FileFormatError(path, _DATASETS_KEY, "is longer than names of texts can be; corrupt")


def _count(path: Path, value: object, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_COUNT:
        raise FileFormatError(path, key, "is not a count")
    return value
