import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.sampling import LogitsError, Sampler, SamplingParams, reference

from . import oracle

VOCAB = 30


def row_of(seed: int, size: int = VOCAB, scale: float = 2.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    top_p=st.sampled_from([0.0, 0.3, 0.93, 1.0]),
    min_p=st.sampled_from([0.0, 0.07, 1.0]),
    typical_p=st.sampled_from([0.0, 0.4, 0.93, 1.0]),
    repeat_penalty=st.sampled_from([0.8, 1.0, 1.3]),
    repeat_last_n=st.sampled_from([-1, 0, 3, 64]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, -0.3]),
    logit_bias=st.sampled_from([{}, {3: 2.5, 4: -math.inf}]),
)
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=12)


@settings(max_examples=400, deadline=None)
@given(PARAMS, TOKENS, st.integers(0, 10**6), st.integers(0, 2**64 - 1), st.integers(0, 10**5))
def test_choice_is_the_oracles_candidate_with_the_most_noise(
    params: SamplingParams, tokens: list[int], row_seed: int, seed: int, position: int
) -> None:
    logits = row_of(row_seed)
    before = logits.copy()
    choice = Sampler(params, seed, VOCAB).choose(logits, tokens, position)

    row = oracle.adjusted(logits.tolist(), tokens, params)
    if params.temperature == 0:
        expected = row.index(max(row))
    else:
        pairs = oracle.candidates(row, params)
        ids = np.array([token for token, _ in pairs], np.int32)
        noise = reference.gumbel(seed, position, ids)
        scores = [x / params.temperature + g for (_, x), g in zip(pairs, noise, strict=True)]
        expected = pairs[int(np.argmax(scores))][0]
    assert choice == (expected, None, ())
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999, 1 - 1e-12])
def test_top_p_alone_over_a_large_vocabulary(top_p: float) -> None:
    params = SamplingParams(temperature=1.0, top_k=0, top_p=top_p, min_p=0.0)
    logits = row_of(1, 5000, 1.0)
    pairs = oracle.candidates(logits.tolist(), params)
    ids = np.array([token for token, _ in pairs], np.int32)
    values = np.array([x for _, x in pairs])
    sampler = Sampler(params, 5, logits.size)
    for position in range(50):
        expected = ids[np.argmax(values + reference.gumbel(5, position, ids))]
        assert sampler.choose(logits, [], position).token == expected


def test_greedy_takes_the_lowest_of_equal_logits_after_bias_and_penalties() -> None:
    logits = np.array([1, 3, 3, 2], np.float32)

    def greedy(tokens: list[int], **settings: object) -> int:
        params = SamplingParams(temperature=0, **settings)  # type: ignore[arg-type]
        return Sampler(params, 0, 4).choose(logits, tokens, 9).token

    assert greedy([]) == 1
    assert greedy([], logit_bias={1: -0.5}) == 2
    assert greedy([1, 1, 2], frequency_penalty=0.4) == 2
    assert greedy([1, 1, 2], frequency_penalty=0.4, repeat_last_n=1) == 1
    assert greedy([1, 2], repeat_penalty=2.0) == 3


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 0.0},
        {"top_k": 0, "top_p": 0.0},
        {"typical_p": 0.0},
        {"min_p": 1.0},
        {"top_k": 1},
        {"top_k": 0, "top_p": 1.0, "min_p": 1.0},
    ],
)
def test_the_tightest_filters_leave_one_candidate(settings: dict[str, float]) -> None:
    sampler = Sampler(SamplingParams(**settings), 3, VOCAB)  # type: ignore[arg-type]
    logits = row_of(4)
    tokens = {sampler.choose(logits, [], position).token for position in range(50)}
    assert len(tokens) == 1


def test_logprobs_are_those_of_the_raw_logits() -> None:
    logits = row_of(8, 1000)
    exact = logits.astype(np.float64) - reference.logsumexp(logits)
    params = SamplingParams(logprobs=3, logit_bias={2: 9.0}, repeat_penalty=1.5, top_k=0)
    for choice in (
        Sampler(params, 1, 1000).choose(logits, [1, 2], 3),
        Sampler(SamplingParams(temperature=0, logprobs=3), 1, 1000).choose(logits, [], 3),
    ):
        assert choice.logprob == pytest.approx(exact[choice.token], abs=1e-6)
        ids = np.argsort(-exact, kind="stable")[:3].tolist()
        assert [token for token, _ in choice.top_logprobs] == ids
        assert [x for _, x in choice.top_logprobs] == pytest.approx(exact[ids].tolist(), abs=1e-6)
    none_asked = Sampler(SamplingParams(logprobs=0), 1, 1000).choose(logits, [], 3)
    assert none_asked.logprob is not None
    assert none_asked.top_logprobs == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {},
        {"top_k": 0},
        {"top_k": 0, "top_p": 1.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 0, "typical_p": 0.5},
        {"logit_bias": {1: 1.0}},
    ],
)
def test_logits_without_a_choice_are_a_clear_error(settings: dict[str, object]) -> None:
    sampler = Sampler(SamplingParams(**settings), 3, VOCAB)  # type: ignore[arg-type]
    for bad in (np.nan, np.inf):
        logits = row_of(4)
        logits[17] = bad
        with pytest.raises(LogitsError, match=rf"position 6: the logit of token 17 is {bad}"):
            sampler.choose(logits, [], 6)
    with pytest.raises(LogitsError, match="every token is banned"):
        sampler.choose(np.full(VOCAB, -np.inf, np.float32), [], 6)


def test_banned_tokens_are_never_chosen() -> None:
    banned = {token: -math.inf for token in range(VOCAB) if token not in (4, 9)}
    for filters in ({}, {"top_k": 0, "top_p": 1.0, "min_p": 0.0}, {"typical_p": 0.9, "top_k": 0}):
        params = SamplingParams(temperature=50.0, logit_bias=banned, **filters)  # type: ignore[arg-type]
        sampler = Sampler(params, 1, VOCAB)
        seen = {sampler.choose(row_of(2), [], position).token for position in range(100)}
        assert seen <= {4, 9}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-6, 1e-40, 1e-308, 5e-324])
@pytest.mark.parametrize("filters", [{}, {"top_k": 5}, {"top_p": 0.9}, {"typical_p": 0.9}])
def test_a_tiny_temperature_takes_the_largest_logit(
    temperature: float, filters: dict[str, float]
) -> None:
    settings: dict[str, float] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0} | filters
    params = SamplingParams(temperature=temperature, **settings)  # type: ignore[arg-type]
    for seed in range(20):
        logits = row_of(seed, scale=10.0)
        assert Sampler(params, seed, VOCAB).choose(logits, [], 0).token == logits.argmax()
