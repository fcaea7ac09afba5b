"""Coupled samples against the exact distribution, and how often two distributions agree."""

import os

import numpy as np
import pytest
from scipy import stats

from nextn.sampling import Sampler, SamplingParams, noise, reference

from . import oracle

VOCAB = 12
SEED = 20_240
POSITIONS = 1_000_000
LOGITS = [2.0, 1.9, 1.0, 0.4, 0.0, -0.1, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0]
TOKENS = [0, 0, 3, 7]

SETTINGS = {
    "plain": SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    "cold": SamplingParams(temperature=0.5, top_k=0, top_p=1.0, min_p=0.0),
    "hot": SamplingParams(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0),
    "defaults": SamplingParams(),
    "top_k": SamplingParams(temperature=1.0, top_k=4, top_p=1.0, min_p=0.0),
    "top_p": SamplingParams(temperature=1.3, top_k=0, top_p=0.8, min_p=0.0),
    "min_p": SamplingParams(temperature=1.3, top_k=0, top_p=1.0, min_p=0.1),
    "typical": SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=0.6),
    "penalties": SamplingParams(
        temperature=1.0,
        top_k=8,
        repeat_penalty=1.5,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias={9: 3.0},
    ),
}


@pytest.fixture(scope="module")
def all_noise() -> np.ndarray:
    """The noise of ids 0 .. VOCAB-1 at a million positions, float64 [POSITIONS, VOCAB]."""
    by_seed = reference.split_mix(SEED, np.array([0], np.uint64))
    states = reference.split_mix(int(by_seed[0]), np.arange(POSITIONS, dtype=np.uint64))
    steps = np.arange(1, VOCAB + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    result = np.concatenate(
        [reference.gumbel_of_bits(reference.mix(s[:, None] + steps)) for s in np.split(states, 20)]
    )
    ids = np.arange(VOCAB, dtype=np.int32)
    for position in (0, 1, 77_777, POSITIONS - 1):
        np.testing.assert_allclose(
            result[position], noise.gumbel(SEED, position, ids), rtol=1e-13, atol=1e-15
        )
    return result


def chosen(logits: np.ndarray, all_noise: np.ndarray) -> np.ndarray:
    """The coupled choice of every position: `logits` already scaled, -inf where filtered out."""
    return np.argmax(logits + all_noise, axis=1)


def p_value(tokens: np.ndarray, expected: np.ndarray) -> float:
    counts = np.bincount(tokens, minlength=VOCAB)
    assert not counts[expected == 0].any()
    support = expected > 0
    return float(stats.chisquare(counts[support], expected[support] * tokens.size).pvalue)


@pytest.mark.parametrize("name", SETTINGS)
def test_samples_have_the_exact_distribution(name: str, all_noise: np.ndarray) -> None:
    params = SETTINGS[name]
    expected = np.array(oracle.distribution(LOGITS, TOKENS, params))
    with np.errstate(divide="ignore"):
        tokens = chosen(np.log(expected), all_noise)
    assert p_value(tokens, expected) > 1e-3

    # The sampler itself makes the same choices, from logits to token.
    sampler = Sampler(params, SEED, VOCAB)
    logits = np.array(LOGITS, np.float32)
    count = int(os.environ.get("NEXTN_TEST_SAMPLES", "10000"))
    own = np.array([sampler.choose(logits, TOKENS, p).token for p in range(count)])
    assert p_value(own, expected) > 1e-3
    np.testing.assert_array_equal(own, tokens[:count])


@pytest.mark.parametrize("difference", [0.0, 0.05, 0.3, 1.0])
def test_a_draft_agrees_as_often_as_theory_says(difference: float, all_noise: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    trunk = np.array(LOGITS)
    draft = trunk + difference * rng.standard_normal(VOCAB)
    p = np.exp(trunk) / np.exp(trunk).sum()
    q = np.exp(draft) / np.exp(draft).sum()
    agreed = float((chosen(np.log(p), all_noise) == chosen(np.log(q), all_noise)).mean())

    # Both choose i exactly if no E_j of the exponential race is below E_i times the larger of the
    # two rate ratios; the chance of that is 1 over the sum of those ratios.
    ratios = np.maximum(p[None, :] / p[:, None], q[None, :] / q[:, None])
    theory = float((1 / ratios.sum(axis=1)).sum())
    assert agreed == pytest.approx(theory, abs=4.5 * np.sqrt(0.25 / POSITIONS))
    # No coupling agrees more often than 1 - TV; this one never less than (1 - TV) / (1 + TV).
    tv = 0.5 * float(np.abs(p - q).sum())
    assert (1 - tv) / (1 + tv) - 1e-9 <= theory <= 1 - tv + 1e-9
