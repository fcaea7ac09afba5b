"""Top-p, min-p and typical-p, where typical-p is among them; else `native/sampling` filters.

Each takes the candidates' logits, float32 [n] in descending order and with a finite first one, and
says which stay. None of them ever drops all. Probabilities are those of the softmax over the
candidates at hand, in float64: each filter renormalises what the one before it left.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def probabilities(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """The candidates' probabilities."""
    weights = np.exp(values.astype(np.float64) - float(values[0]))
    return weights / weights.sum()  # type: ignore[no-any-return]


def top_p(probability: NDArray[np.float64], p: float) -> int | None:
    """How many of the descending probabilities it takes to reach `p`; None if they do not."""
    enough = int(np.searchsorted(np.cumsum(probability), p))
    return enough + 1 if enough < probability.size else None


def min_p_threshold(largest: float, p: float) -> float:
    """The least logit whose probability is at least `p` (> 0) times that of the largest logit."""
    return largest + math.log(p)


def typical_p(values: NDArray[np.float32], p: float) -> NDArray[np.intp]:
    """Indices, ascending, of the locally typical candidates.

    Candidates are taken by the distance between their surprise and the entropy, nearest first (the
    more probable among equals), until their probability exceeds `p` (Meister et al., 2023).
    """
    probability = probabilities(values)
    possible = probability > 0
    surprise = np.full(values.size, np.inf)
    np.log(probability, out=surprise, where=possible)
    surprise[possible] *= -1
    entropy = float((probability[possible] * surprise[possible]).sum())
    order = np.argsort(np.abs(surprise - entropy), kind="stable")
    enough = int(np.searchsorted(np.cumsum(probability[order]), p, side="right"))
    return np.sort(order[: enough + 1])
