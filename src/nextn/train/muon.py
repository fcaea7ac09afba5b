"""Muon (Jordan et al., 2024): momentum whose matrices are made orthogonal before each step.

It learns from fewer tokens than AdamW, and tokens are what takes time here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# The quintic iteration's coefficients, chosen for the steepest rise near zero.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_EPSILON = 1e-7
# Makes updates as large as AdamW's usually are (Liu et al., 2025, "Muon is scalable").
_SCALE = 0.2


class Muon(torch.optim.Optimizer):
    """For matrices; vectors belong to AdamW.

    Args:
        matrices: what is trained; float32.
        lr: learning rate, on the scale of AdamW's.
        momentum: of Nesterov's kind.
        weight_decay: decoupled.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step."""
        del closure
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum"] = torch.zeros_like(matrix)
                average = state["momentum"]
                average.lerp_(matrix.grad, 1 - group["momentum"])
                direction = matrix.grad.lerp(average, group["momentum"])
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                size = _SCALE * max(matrix.shape) ** 0.5
                matrix.add_(orthogonal(direction), alpha=-group["lr"] * size)


def orthogonal(x: Tensor) -> Tensor:
    """Near the orthogonal matrix that is nearest to x: singular values become about 1.

    Args:
        x: float32 [rows, columns].

    Returns:
        float32, of the same shape; singular values from about 0.7 to 1.2.
    """
    a, b, c = _COEFFICIENTS
    y = x.bfloat16()
    wide = x.shape[0] <= x.shape[1]
    if not wide:
        y = y.T
    y = y / (y.norm() + _EPSILON)
    for _ in range(_ITERATIONS):
        gram = y @ y.T
        y = a * y + (b * gram + c * gram @ gram) @ y
    return (y if wide else y.T).float()
