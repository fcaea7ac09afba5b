"""From a head's own probability of a token to the chance that the trunk chooses it, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEPTHS = 8
"""Depths that are counted by themselves; deeper tokens count as of the last one."""

BINS = 16
"""Bins of equal width that probabilities fall into."""

_BIN_PRIOR = 8.0  # weight of the head's own probability against what was counted, in tokens
_DEPTH_PRIOR = 20.0  # weight of what was counted at all depths against what was at one
_MEMORY = 1 - 1 / 1000
_RENEWAL = 32  # tokens that are judged before the table is made anew, which takes some time
_LEAST, _MOST = 0.01, 0.99


class HeadChances:
    """The share of right tokens by depth and by the head's probability, counted online.

    A head is right about as often as it thinks, to begin with: the prior of a bin is its middle.
    What is counted at all depths together refines that, and is the prior of each single depth; each
    as the prior of a Beta distribution. Old counts fade. Greedy and sampled texts are counted
    apart, since a sampled token is right less often than the most probable one.

    A token is judged only if all tokens before it were right, which is the condition under which
    its chance is used.
    """

    def __init__(self) -> None:
        self._hits = np.zeros((2, DEPTHS, BINS))
        self._trials = np.zeros((2, DEPTHS, BINS))
        self._tables: list[NDArray[np.float32] | None] = [None, None]
        self._judged = [0, 0]  # since the table was made

    def table(self, sampled: bool) -> NDArray[np.float32]:
        """The chances of acceptance: float32 [depths, bins]."""
        table = self._tables[sampled]
        if table is None:
            table = self._tables[sampled] = self._estimate(int(sampled))
            self._judged[sampled] = 0
        return table

    def observe(
        self,
        tokens: Sequence[int],
        probabilities: Sequence[float],
        written: Sequence[int],
        sampled: bool,
    ) -> None:
        """Judge a draft.

        Args:
            tokens: the draft.
            probabilities: the head's, of each of its tokens.
            written: what the trunk chose, from the position of the first drafted token on.
            sampled: whether the text is sampled.
        """
        side = int(sampled)
        hits, trials = self._hits[side], self._trials[side]
        for depth, (token, probability, right) in enumerate(
            zip(tokens, probabilities, written, strict=False)
        ):
            at = min(depth, DEPTHS - 1), min(int(probability * BINS), BINS - 1)
            hits[at] = hits[at] * _MEMORY + (token == right)
            trials[at] = trials[at] * _MEMORY + 1.0
            self._judged[side] += 1
            if self._judged[side] >= _RENEWAL:
                self._tables[side] = None
            if token != right:
                break

    def _estimate(self, side: int) -> NDArray[np.float32]:
        hits, trials = self._hits[side], self._trials[side]
        middle = (np.arange(BINS) + 0.5) / BINS
        all_depths = (hits.sum(axis=0) + _BIN_PRIOR * middle) / (trials.sum(axis=0) + _BIN_PRIOR)
        chances = (hits + _DEPTH_PRIOR * all_depths) / (trials + _DEPTH_PRIOR)
        table: NDArray[np.float32] = np.clip(chances, _LEAST, _MOST).astype(np.float32)
        return table
