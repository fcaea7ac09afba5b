"""The block formats that a conversion writes, and tensors in them, made some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError
from nextn.files.block_encoding import ENCODED_TYPES, F32, encode
from nextn.files.block_formats import BlockType
from nextn.files.gguf.writer import NewTensor, TensorBytes, TensorCopy, TensorPieces
from nextn.files.safetensors.quantised import DenseWeight
from nextn.tools.convert.families import Dimensions, FamilyMap
from nextn.tools.convert.names import Target

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

# As float32 a megabyte, which stays in the cache of a processor on its way.
_CHUNK_ELEMENTS = 1 << 18


@dataclass(frozen=True, slots=True)
class Encoding:
    """A block format and how values become it.

    Attributes:
        block_type: the format.
        encode: float32 [..., row] to uint8 [..., row bytes]; raises ValueError for values that the
            format does not have.
    """

    block_type: BlockType
    encode: Callable[[Floats], Bytes]


ENCODINGS: dict[str, Encoding] = {
    name.lower(): Encoding(ENCODED_TYPES[name], partial(encode, ENCODED_TYPES[name]))
    for name in ("F32", "F16", "BF16", "Q8_0")
}
"""What matrices can be written as; a format that is entered here is offered by the verb."""

AUTOMATIC = "auto"
"""Matrices keep the precision that they have, and are BF16 where they are quantised."""

FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}
"""`general.file_type` by block format."""

_STORED = {"F32": "f32", "F16": "f16", "BF16": "bf16", "F64": "f32"}


def choose(target: Target, wanted: str) -> Encoding:
    """The encoding of a tensor: as wanted for matrices, F32 for all else.

    Rows that the format's blocks do not divide into become BF16.

    Args:
        target: the tensor.
        wanted: a key of `ENCODINGS`, or `AUTOMATIC`.
    """
    if len(target.weight.shape) < 2:
        return ENCODINGS["f32"]
    if wanted == AUTOMATIC:
        wanted = _STORED.get(target.weight.layout, "bf16")
    encoding = ENCODINGS[wanted]
    if target.weight.shape[-1] % encoding.block_type.elements:
        return ENCODINGS["bf16"]
    return encoding


def new_tensor(
    target: Target, encoding: Encoding, family: FamilyMap, sizes: Dimensions
) -> NewTensor:
    """A tensor of the file that is yet to be written.

    Args:
        target: which one.
        encoding: its format.
        family: of the model, which may order rows in another way, or add to norms.
        sizes: of the model.
    """
    weight = target.weight
    permuted = target.role in family.permuted
    offset = family.norm_offset if target.role.endswith("norm") else 0.0
    stored = _STORED.get(weight.layout)
    if (
        isinstance(weight, DenseWeight)
        and not permuted
        and not offset
        and stored is not None
        and ENCODINGS[stored].block_type == encoding.block_type
        and weight.layout != "F64"
    ):
        tensor = weight.tensor
        return TensorCopy(weight.shape, encoding.block_type, tensor.path, tensor.offset)
    unit = sizes.head_width if permuted else 1

    def pieces() -> Iterator[Bytes]:
        row = math.prod(weight.shape[1:])
        step = max(unit, _CHUNK_ELEMENTS // max(1, row) // unit * unit)
        for start in range(0, weight.shape[0], step):
            values = weight.rows(start, min(start + step, weight.shape[0]))
            if permuted:
                values = to_neighbours(values, unit)
            if offset:
                values = values + np.float32(offset)
            yield _encoded(target, encoding, values)
        for part in weight.parts.values():
            part.release()

    return TensorPieces(weight.shape, encoding.block_type, pieces)


def vector_tensor(values: Floats) -> NewTensor:
    """A tensor of F32 that is computed: float32 [n]."""
    return TensorBytes(values.shape, F32, encode(F32, values))


def to_neighbours(values: Floats, head_width: int) -> Floats:
    """Order the rows of heads so that the two elements of a rotary pair are neighbours.

    Args:
        values: float32 [heads * head width, ...], the elements of a pair half a head apart.
        head_width: rows of a head.

    Returns:
        float32, of the same shape.
    """
    halves = values.reshape(-1, 2, head_width // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def _encoded(target: Target, encoding: Encoding, values: Floats) -> Bytes:
    if not np.isfinite(values).all():
        raise _error(target, "holds NaN or infinity, or values beyond float32; it is damaged")
    try:
        return encoding.encode(values)
    except ValueError:
        kind = encoding.block_type.name
        raise _error(target, f"holds values that {kind} has not; convert to bf16") from None


def _error(target: Target, reason: str) -> FileFormatError:
    part = next(iter(target.weight.parts.values()))
    return FileFormatError(part.path, f"tensor {target.weight.name}", reason)
