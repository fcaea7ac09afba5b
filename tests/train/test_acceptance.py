from __future__ import annotations

import numpy as np
import pytest

from nextn.train.acceptance import Acceptance, count_acceptance, total


def by_chains(right: np.ndarray, chain_steps: np.ndarray) -> tuple[list[int], list[int]]:
    """The same counts, chain by chain."""
    depth, positions = right.shape
    tried, accepted = [0] * depth, [0] * depth
    for start in range(positions):
        for step in range(depth):
            at = start + step
            inside = at < positions and chain_steps[at] - chain_steps[start] == step
            if not inside:
                break
            tried[step] += 1
            if not right[step, at]:
                break
            accepted[step] += 1
    return tried, accepted


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_chains_followed_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = [1, 7, 30, 2]
    chain_steps = np.concatenate([np.arange(1, length + 1) for length in lengths])
    right = rng.random((4, len(chain_steps))) < 0.7
    counted = count_acceptance(right, chain_steps)
    assert (counted.tried.tolist(), counted.right.tolist()) == by_chains(right, chain_steps)


def test_rates_are_given_that_all_before_were_right() -> None:
    right = np.array([[True, True, False, True], [True, False, True, False]])
    counted = count_acceptance(right, np.arange(1, 5))
    # Second drafts are tried after positions 0 and 1; what follows position 3 is not known.
    assert counted.rates == [0.75, 0.5]
    assert counted.tokens_per_step == pytest.approx(1 + 0.75 + 0.375)


def test_what_was_never_tried_has_no_rate() -> None:
    counted = count_acceptance(np.zeros((2, 3), np.bool_), np.arange(1, 4))
    assert counted.rates == [0.0, None]
    assert counted.tokens_per_step == 1.0


def test_sums() -> None:
    one = Acceptance(np.array([4, 2]), np.array([2, 1]))
    assert total([one, one], 2).rates == [0.5, 0.5]
    assert total([], 2).rates == [None, None]
