"""Logit bias and penalties: what changes logits before any filter sees them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nextn.sampling.params import SamplingParams


def window(tokens: Sequence[int], last_n: int) -> Sequence[int]:
    """The tokens that the penalties look at: the last `last_n`, or all of them for -1."""
    return tokens if last_n < 0 else tokens[max(len(tokens) - last_n, 0) :]


def penalise(logits: NDArray[np.float32], tokens: Sequence[int], params: SamplingParams) -> None:
    """Apply the three penalties to `logits`, in place.

    For a token that occurs n > 0 times in the window: a positive logit is divided and any other
    multiplied by the repeat penalty, so that both become less likely (Keskar et al., 2019); then
    n times the frequency penalty and once the presence penalty are subtracted.

    Args:
        logits: float32 [vocab].
        tokens: all tokens before the position to choose.
        params: the penalties and the length of their window.
    """
    counts = Counter(window(tokens, params.repeat_last_n))
    if not counts:
        return
    ids = np.fromiter(counts.keys(), np.int32, len(counts))
    n = np.fromiter(counts.values(), np.float32, len(counts))
    seen = logits[ids]
    if params.repeat_penalty != 1.0:
        factor = np.float32(params.repeat_penalty)
        seen = np.where(seen > 0, seen / factor, seen * factor)
    logits[ids] = seen - (
        n * np.float32(params.frequency_penalty) + np.float32(params.presence_penalty)
    )
