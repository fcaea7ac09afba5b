"""The draft vocabulary: the tokens that a head can draft, chosen by what the trunk writes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_MULTIPLE = 16
"""The native kernels take output rows in groups of so many."""


_BEFORE = 1.5
"""What a token of an earlier list is ahead of others, in occurrences: it was there for a reason."""


def choose_vocabulary(
    counts: NDArray[np.int64],
    *,
    most: int,
    coverage: float,
    always: Iterable[int] = (),
    before: Iterable[int] = (),
) -> NDArray[np.int32]:
    """The most frequent tokens.

    Args:
        counts: int64 [vocabulary], how often the trunk wrote each token.
        most: most tokens to choose.
        coverage: stop when so large a share of all occurrences is covered.
        always: tokens to choose in any case, such as end tokens.
        before: an earlier list, chosen by other texts. Of rare tokens, which there are many of,
            few texts tell little, so what was chosen by two sets of texts is better than by one.

    Returns:
        Token ids, ascending: int32 [a multiple of 16, or the whole vocabulary].
    """
    always = np.unique(np.fromiter(always, np.int64))
    # Most frequent first; among equals the lower id, since tokenizers put common tokens first.
    rank = counts.astype(np.float64)
    rank[np.fromiter(before, np.int64)] += _BEFORE
    rank[always] = np.inf
    order = np.argsort(-rank, kind="stable")
    covered = np.cumsum(counts[order]) / max(1, counts.sum())
    needed = int(np.searchsorted(covered, coverage)) + 1
    size = -(-max(needed, len(always)) // _MULTIPLE) * _MULTIPLE
    size = min(size, max(most // _MULTIPLE * _MULTIPLE, len(always)), len(counts))
    return np.sort(order[:size]).astype(np.int32)


def coverage_of(counts: NDArray[np.int64], ids: NDArray[np.int32]) -> float:
    """Share of all occurrences that are tokens of the list."""
    return float(counts[ids].sum() / max(1, counts.sum()))
