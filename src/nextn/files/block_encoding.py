"""Encoding of float32 values into the block formats that nextn writes.

The quantisers are native (`native/kernels/encode/`). They search for the scales with the least
squared error, weighted by the importance of columns where it is known. Without importance, Q8_0,
Q4_0, Q4_1, Q5_0 and Q5_1 follow from the extremes of a block, and are byte for byte what the `gguf`
package writes. Bytes depend neither on the number of threads nor on the processor.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nextn import _native
from nextn.files.block_formats import BLOCK_TYPES, BlockType

_BY_NAME: Final = {block_type.name: block_type for block_type in BLOCK_TYPES.values()}

F32: Final = _BY_NAME["F32"]
Q8_0: Final = _BY_NAME["Q8_0"]
Q4_0: Final = _BY_NAME["Q4_0"]
IQ4_NL: Final = _BY_NAME["IQ4_NL"]

ENCODED_TYPES: Final[dict[str, BlockType]] = {
    name: _BY_NAME[name]
    for name in (
        *("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q5_1", "Q5_0", "Q4_1", "Q4_0"),
        *("IQ4_NL", "NVFP4", "MXFP4"),
    )
}
"""The formats that nextn writes, by name."""

FLOAT_TYPES: Final = frozenset({"F32", "F16", "BF16"})
"""Those that hold plain numbers."""

_LEAST_IMPORTANCE: Final = 1e-4


class BadValueError(ValueError):
    """A value that is NaN, infinite or too large for a format.

    Args:
        row: the first row that holds one.
    """

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} holds values that are NaN, infinite or too large")
        self.row = row


def encode(
    block_type: BlockType,
    values: NDArray[np.float32],
    importance: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """Encode rows of float32.

    Args:
        block_type: one of `ENCODED_TYPES`.
        values: float32 [..., a multiple of the format's block].
        importance: float32 [columns], or None; see `usable_importance`.

    Returns:
        uint8 [..., bytes of a row].

    Raises:
        BadValueError: values that the format cannot hold.
        ValueError: rows that are not whole blocks.
    """
    data = np.ascontiguousarray(values, "<f4").reshape(-1).view(np.uint8)
    encoded = reencode(F32, data, block_type, values.shape[-1], importance=importance)
    return encoded.reshape(*values.shape[:-1], -1)


def reencode(
    source_type: BlockType,
    data: NDArray[np.uint8],
    block_type: BlockType,
    columns: int,
    *,
    importance: NDArray[np.float32] | None = None,
    threads: int = 1,
    kernels: str | None = None,
    lattice: bool = False,
) -> NDArray[np.uint8]:
    """Encode rows that stand in one format in another.

    Args:
        source_type: the format that they stand in.
        data: uint8 [bytes of all rows].
        block_type: one of `ENCODED_TYPES`.
        columns: elements of a row.
        importance: float32 [columns], what an error in each column weighs; see `usable_importance`.
        threads: threads that compute.
        kernels: one of `nextn._native.available_kernels()`; None takes the best.
        lattice: for Q4_0: blocks of bfloat16 values that lie on its lattice already, as in
            checkpoints that were trained with quantisation in the loop, are kept exactly.

    Returns:
        uint8 [bytes of all rows].

    Raises:
        BadValueError: values that the format cannot hold.
        ValueError: rows that are not whole blocks of both formats.
    """
    if columns % block_type.elements or columns % source_type.elements:
        raise ValueError(
            f"[{block_type.name.lower()}] rows of {columns} are not multiples of "
            f"{max(block_type.elements, source_type.elements)}"
        )
    rows = data.size // source_type.row_bytes(columns)
    out = np.empty(rows * block_type.row_bytes(columns), np.uint8)
    bad = _native.quantise_blocks(
        source_type.id,
        data,
        block_type.id,
        columns,
        importance,
        out,
        threads,
        kernels or _best_kernels(),
        lattice,
    )
    if bad >= 0:
        raise BadValueError(bad)
    return out


def usable_importance(squares: NDArray[np.float64]) -> NDArray[np.float32]:
    """The importance of columns as the quantisers take it: 1 on average, and never zero.

    A column that met only zeros keeps a little weight, since other texts may use it.

    Args:
        squares: float64 [columns], mean squares of the activations that each column meets.

    Returns:
        float32 [columns].
    """
    mean = float(squares.mean())
    if mean <= 0.0:
        return np.ones(len(squares), np.float32)
    usable: NDArray[np.float32] = np.maximum(squares / mean, _LEAST_IMPORTANCE).astype(np.float32)
    return usable


def lattice_share(values: NDArray[np.float32]) -> float:
    """How many of the blocks that are not zero lie on the lattice of Q4_0 as bfloat16.

    Args:
        values: float32 [a multiple of 32].

    Returns:
        From 0 to 1.
    """
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, Q4_0.elements)
    # By their bits without the sign, since NaN would bring a warning.
    blocks = blocks[(blocks.view(np.uint32) << 1).any(axis=1)]
    if not len(blocks):
        return 0.0
    return _native.count_q4_0_lattice_blocks(blocks.reshape(-1)) / len(blocks)


@cache
def _best_kernels() -> str:
    return _native.available_kernels()[0]
