"""Recognises checkpoints that were trained with Q4_0 in the loop.

Their weights are bfloat16 values of d * q, with whole q from -8 to 7 and one d for 32 columns, so
that Q4_0 holds them exactly, and every other format loses something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nextn.files.block_encoding import FLOAT_TYPES, Q4_0, lattice_share
from nextn.files.block_formats import decode
from nextn.files.gguf.writer import NewTensor, TensorCopy
from nextn.tools.quantise.encode import pieces_of
from nextn.tools.quantise.plan import TensorPlan

_SAMPLED_ROWS: Final = 8
_MOST_COLUMNS: Final = 4096
_ON_LATTICE: Final = 0.99


def lattice_matrices(tensors: Mapping[str, NewTensor]) -> set[str]:
    """The matrices that lie on the lattice of Q4_0, by some of their rows."""
    return {
        name
        for name, tensor in tensors.items()
        if len(tensor.shape) > 1
        and tensor.block_type.name in FLOAT_TYPES
        and tensor.shape[-1] % Q4_0.elements == 0
        and lattice_share(_sample(tensor)) > _ON_LATTICE
    }


def lattice_notes(found: set[str], plans: Sequence[TensorPlan]) -> list[str]:
    """What to say about them."""
    matrices = [plan for plan in plans if plan.name in found and plan.changes]
    if not matrices:
        return []
    kept = sum(plan.target == Q4_0 for plan in matrices)
    text = (
        f"{len(matrices)} matrices lie on the lattice of Q4_0: this checkpoint was trained for it "
        "(QAT), or was Q4_0 before"
    )
    if kept == len(matrices):
        return [f"{text}; Q4_0 keeps them exactly"]
    others = next(plan for plan in matrices if plan.target != Q4_0)
    return [
        f"{text}; Q4_0 would keep them exactly, but {len(matrices) - kept}, such as {others.name}, "
        f"become something else ({others.target.name}): take type Q4_0, and "
        f"--tensor-type '{others.name}=Q4_0' where that is not enough"
    ]


def _sample(tensor: NewTensor) -> NDArray[np.float32]:
    """Some of the values, in whole blocks."""
    kind, row_bytes = tensor.block_type, tensor.block_type.row_bytes(tensor.shape[-1])
    columns = min(tensor.shape[-1], _MOST_COLUMNS)
    if isinstance(tensor, TensorCopy):
        chosen = np.linspace(0, math.prod(tensor.shape[:-1]) - 1, _SAMPLED_ROWS).astype(np.int64)
        rows = np.empty((len(chosen), kind.row_bytes(columns)), np.uint8)
        with tensor.path.open("rb") as file:
            for row, index in zip(rows, chosen.tolist(), strict=True):
                file.seek(tensor.offset + index * row_bytes)
                file.readinto(row.data)
        return decode(kind, rows).reshape(-1)
    # What is made on the way is made from the start.
    piece = next(iter(pieces_of(tensor)))
    count = min(_SAMPLED_ROWS, len(piece) // row_bytes)
    rows = piece[: count * row_bytes].reshape(count, row_bytes)
    return decode(kind, rows[:, : kind.row_bytes(columns)]).reshape(-1)
