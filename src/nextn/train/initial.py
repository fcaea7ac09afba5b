"""What a head begins with: parts of the trunk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nextn.files import Checkpoint
from nextn.models.head_tensors import place_of

Floats = NDArray[np.float32]


def initial_weights(
    trunk: Checkpoint,
    shapes: Mapping[str, tuple[int, ...]],
    projection: Floats | None = None,
) -> dict[str, Floats]:
    """Values for a new head: the trunk's last block, its last norm, norms of 1, and a projection.

    Args:
        trunk: the model.
        shapes: of the tensors of the head, by name; see `nextn.models.nextn_head.new_head_plan`.
        projection: float32 [hidden, 2 * hidden], see `nextn.train.projection`; None gives the
            hidden state and nothing of the embedding.

    Returns:
        float32 values of every tensor.
    """
    return {name: _initial(trunk, name, shape, projection) for name, shape in shapes.items()}


def decoded(checkpoint: Checkpoint, name: str, rows: NDArray[np.int32] | None = None) -> Floats:
    """A tensor's values, or some rows of them, times its scale if it has one: float32."""
    tensor = checkpoint.tensors[name]
    tensor.check_finite()
    values = tensor.decode() if rows is None else tensor.decode_rows(rows)
    scale = checkpoint.tensors.get(name.removesuffix(".weight") + ".scale")
    return values if scale is None else values * scale.decode()[0]


def _initial(
    trunk: Checkpoint, name: str, shape: tuple[int, ...], projection: Floats | None
) -> Floats:
    block, role = place_of(name)
    if block is None:
        raise ValueError(f"[train] {name} is no tensor of a block")
    match role:
        case "nextn.eh_proj.weight":
            if projection is not None:
                return projection
            hidden = shape[0]
            return np.concatenate((np.zeros((hidden, hidden)), np.eye(hidden)), 1).astype("f4")
        case "nextn.enorm.weight" | "nextn.hnorm.weight":
            return np.ones(shape, np.float32)
        case "nextn.shared_head_norm.weight":
            return decoded(trunk, "output_norm.weight")
        case _:
            return decoded(trunk, f"blk.{block - 1}.{role}")
