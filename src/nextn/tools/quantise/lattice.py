"""Recognises checkpoints that were trained with Q4_0 in the loop.

Their weights are bfloat16 values of d * q, with whole q from -8 to 7 and one d for 32 columns, so
that Q4_0 holds them exactly, and every other format loses something.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from nextn.files.block_encoding import FLOAT_TYPES, Q4_0, lattice_share
from nextn.files.block_formats import BlockType, decode
from nextn.files.tensor import Tensor
from nextn.tools.quantise.plan import TensorPlan

_SAMPLED_ROWS: Final = 8
_MOST_COLUMNS: Final = 4096
_ON_LATTICE: Final = 0.99


def lattice_matrices(tensors: Mapping[str, Tensor]) -> set[str]:
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


def _sample(tensor: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    kind: BlockType = tensor.block_type
    rows = tensor.data.reshape(math.prod(tensor.shape[:-1]), -1)
    chosen = np.linspace(0, len(rows) - 1, min(_SAMPLED_ROWS, len(rows))).astype(np.intp)
    columns = min(tensor.shape[-1], _MOST_COLUMNS)
    return decode(kind, rows[chosen, : kind.row_bytes(columns)]).reshape(-1)
