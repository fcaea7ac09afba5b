"""What a head begins with: the trunk's last block, and a projection that passes the state on."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nextn.files import Checkpoint

Floats = NDArray[np.float32]

_NAME = re.compile(r"blk\.(\d+)\.(.+)")


def initial_weights(trunk: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Floats]:
    """Values for a new head.

    The block is the trunk's last one. `eh_proj` gives the hidden state and nothing of the
    embedding; `hnorm` undoes the trunk's last norm, so that the block meets a state that points
    where the one that it was made for did.

    Args:
        trunk: the model.
        shapes: of the tensors of the head, by name; see `nextn.models.nextn_head.new_head_plan`.

    Returns:
        float32 values of every tensor.
    """
    return {name: _initial(trunk, name, shape) for name, shape in shapes.items()}


def decoded(checkpoint: Checkpoint, name: str) -> Floats:
    """A tensor's values, times the scale that belongs to it if there is one: float32."""
    checkpoint.tensors[name].check_finite()
    values = checkpoint.tensors[name].decode()
    scale = checkpoint.tensors.get(name.removesuffix(".weight") + ".scale")
    return values if scale is None else values * scale.decode()[0]


def _initial(trunk: Checkpoint, name: str, shape: tuple[int, ...]) -> Floats:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"[train] {name} is no tensor of a block")
    block, role = int(match[1]), match[2]
    output_norm = decoded(trunk, "output_norm.weight")
    match role:
        case "nextn.eh_proj.weight":
            hidden = shape[0]
            return np.concatenate((np.zeros((hidden, hidden)), np.eye(hidden)), 1).astype("f4")
        case "nextn.enorm.weight":
            return np.ones(shape, np.float32)
        case "nextn.hnorm.weight":
            return _inverse(output_norm)
        case "nextn.shared_head_norm.weight":
            return output_norm
        case _:
            return decoded(trunk, f"blk.{block - 1}.{role}")


def _inverse(norm: Floats) -> Floats:
    """1 / norm, scaled to a mean square of 1, without huge values where the norm is near zero."""
    least = 0.05 * np.abs(norm).mean()
    inverse = np.sign(norm + (norm == 0)) / np.maximum(np.abs(norm), least)
    result: Floats = (inverse / np.sqrt(np.mean(np.square(inverse)))).astype(np.float32)
    return result
