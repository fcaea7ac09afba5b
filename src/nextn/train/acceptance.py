"""Acceptance: how often the trunk would have taken the drafts, from what was right where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Drafts by their place in the chain.

    Attributes:
        tried: int64 [depth], chains whose drafts before this one were all right.
        right: int64 [depth], how many of them were right here, too.
    """

    tried: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def none(cls, depth: int) -> Acceptance:
        """Of no text."""
        return cls(np.zeros(depth, np.int64), np.zeros(depth, np.int64))

    def __add__(self, other: Acceptance) -> Acceptance:
        return Acceptance(self.tried + other.tried, self.right + other.right)

    @property
    def rates(self) -> list[float | None]:
        """Of each place in the chain, given that all before were right; None if never tried."""
        return [
            None if not tried else right / tried
            for tried, right in zip(self.tried.tolist(), self.right.tolist(), strict=True)
        ]

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step of the trunk gives on average if every chain is drafted in full."""
        rates = [rate or 0.0 for rate in self.rates]
        return 1.0 + float(np.cumprod(rates).sum())


def count_acceptance(right: NDArray[np.bool_], chain_steps: NDArray[np.int64]) -> Acceptance:
    """Count over the positions of one or more texts, which stand one after the other.

    Args:
        right: bool [depth, positions], whether step k of the chain predicted the token after each
            position, had all drafts before it been accepted.
        chain_steps: int64 [positions], how many steps of a chain may end at each: 1, 2, 3 ... for
            each text.
    """
    depth, positions = right.shape
    tried, accepted = np.zeros(depth, np.int64), np.zeros(depth, np.int64)
    alive = np.ones(positions, np.bool_)
    for step in range(depth):
        if step:
            # A chain moves one position on with each step.
            alive = np.concatenate(([False], alive[:-1]))
        alive = alive & (chain_steps > step)
        tried[step] = alive.sum()
        alive = alive & right[step]
        accepted[step] = alive.sum()
    return Acceptance(tried, accepted)


def total(parts: Sequence[Acceptance], depth: int) -> Acceptance:
    """The sum of several."""
    return sum(parts, Acceptance.none(depth))
