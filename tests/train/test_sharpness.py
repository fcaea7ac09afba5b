from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from nextn.train.sharpness import SCALES, count_agreements  # noqa: E402

POSITIONS, HIDDEN, VOCABULARY = 400, 8, 30


def counted(head_output: Any, trunk_output: Any, final: Any, hidden: Any) -> list[float]:
    generator = torch.Generator().manual_seed(3)
    return count_agreements(final, hidden, head_output, trunk_output, generator).tolist()


def given(seed: int = 1) -> tuple[Any, Any]:
    """States and an output matrix that make distributions of some entropy."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(POSITIONS, HIDDEN, generator=generator),
        torch.randn(VOCABULARY, HIDDEN, generator=generator),
    )


def probabilities(logits: np.ndarray) -> np.ndarray:
    logits = np.where(logits < logits.max() + math.log(0.05), -np.inf, logits) / 0.8
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def agreement(p: np.ndarray, q: np.ndarray) -> float:
    """The chance that the largest of log p + noise and of log q + noise is the same token.

    With Gumbel noise both choose i with probability 1 / sum_j max(p_j / p_i, q_j / q_i).
    """
    both = [i for i in range(len(p)) if p[i] > 0 and q[i] > 0]
    return sum(1 / np.maximum(p / p[i], q / q[i]).sum() for i in both)


def test_agreements_are_counted_as_often_as_their_probability_says() -> None:
    hidden, output = given()
    other = output + 0.5 * torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    counts = counted(other, output, hidden, hidden)
    for scale, count in zip(SCALES, counts, strict=True):
        exact = sum(
            agreement(probabilities(one), probabilities(scale * two))
            for one, two in zip(
                (hidden @ output.T).double().numpy(),
                (hidden @ other.T).double().numpy(),
                strict=True,
            )
        )
        # Four standard errors, if all positions were as uncertain as can be.
        assert count == pytest.approx(exact, abs=4 * math.sqrt(POSITIONS * 0.25 / 4))


def test_a_head_that_is_the_trunk_agrees_always_and_stays_as_it_is() -> None:
    hidden, output = given()
    counts = counted(output, output, hidden, hidden)
    assert counts[0] == POSITIONS
    assert all(count < POSITIONS for count in counts[1:])


@pytest.mark.parametrize("flatter", [1.5, 2.0])
def test_a_head_that_is_too_flat_is_sharpened_as_much(flatter: float) -> None:
    hidden, output = given()
    counts = counted(output, output, hidden / flatter, hidden)
    assert SCALES[int(np.argmax(counts))] == flatter


def test_tokens_that_are_filtered_away_are_never_chosen() -> None:
    # Two tokens, of which the second has less than min_p of the first.
    output = torch.tensor([[0.0], [-3.1]])
    hidden = torch.ones(POSITIONS, 1)
    assert counted(output, output, hidden * 0.0, hidden)[0] < 0.6 * POSITIONS
    assert counted(output, output, hidden, hidden) == [POSITIONS] * len(SCALES)
