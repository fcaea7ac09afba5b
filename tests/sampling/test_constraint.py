"""Constraints that are followed through drafts, masks, and constraints behind a marker."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.sampling import Follower, LogitsError, Sampler, SamplingParams
from nextn.sampling.constraint import After, Masking
from tests.support.fake_constraint import FakeConstraint, FakeConstraintSource, accept_allowed

VOCAB = 70
END = 62
PROMPT = [1, 2, 3]


class FixedSource:
    """Gives one constraint, whatever state it is in."""

    vocab_size = VOCAB

    def __init__(self, constraint: FakeConstraint) -> None:
        self._constraint = constraint

    def start(self) -> FakeConstraint:
        return self._constraint


def bits(mask: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.unpackbits(mask, bitorder="little")[:VOCAB].astype(bool)


@given(st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=6)), max_size=12))
def test_a_follower_is_where_a_new_constraint_would_be(
    steps: list[tuple[int, list[int]]],
) -> None:
    """Each step verifies some drafts, of which some become text, or goes back to the text."""
    follower = Follower(FakeConstraintSource(VOCAB, END), len(PROMPT))
    text: list[int] = []
    for accepted, picks in steps:
        drafted: list[int] = []
        for pick in picks:
            fresh = FakeConstraint(VOCAB, END)
            for token in text + drafted:
                fresh.accept(token)
            state = follower.after(PROMPT + text, drafted)
            assert isinstance(state, FakeConstraint)
            assert state.tokens == fresh.tokens
            assert state.mask().tobytes() == fresh.mask().tobytes()
            allowed = np.flatnonzero(bits(fresh.mask()))
            drafted.append(int(allowed[pick % len(allowed)]))
        text += drafted[:accepted]


@pytest.mark.parametrize("method", ["accept", "rollback"])
@pytest.mark.parametrize("before", [True, False])
def test_an_interrupt_leaves_a_follower_in_order(
    monkeypatch: pytest.MonkeyPatch, method: str, before: bool
) -> None:
    text: list[int] = []
    fresh = FakeConstraint(VOCAB, END)
    while len(text) < 8:
        text.append(int(np.flatnonzero(bits(fresh.mask()))[-1]))
        fresh.tokens = list(text)
    follower = Follower(FakeConstraintSource(VOCAB, END), 0)
    follower.after(text[:6])
    change = getattr(FakeConstraint, method)

    def interrupted(self: FakeConstraint, argument: int) -> None:
        if not before:
            change(self, argument)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FakeConstraint, method, interrupted)
        with pytest.raises(KeyboardInterrupt):
            follower.after(text if method == "accept" else text[:4])
    for length in (4, 8, 3):
        state = follower.after(text[:length])
        assert isinstance(state, FakeConstraint)
        assert state.tokens == text[:length]


@given(
    st.lists(
        st.one_of(st.floats(-50, 50, width=32), st.just(-math.inf)), min_size=VOCAB, max_size=VOCAB
    ),
    st.lists(st.booleans(), min_size=VOCAB, max_size=VOCAB),
)
def test_a_mask_bans_what_is_not_allowed_and_changes_nothing_else(
    values: list[float], allowed: list[bool]
) -> None:
    logits = np.array(values, np.float32)
    before = logits.copy()
    mask = np.packbits(np.array(allowed + [True] * 26), bitorder="little")
    masking = Masking()
    for values_of, may_be in ((logits, mask), (logits[::-1].copy(), ~mask), (logits, mask)):
        bits_of = np.unpackbits(may_be, bitorder="little")[:VOCAB].tolist()
        assert masking.masked(values_of, may_be).tolist() == [
            value if may else -math.inf
            for value, may in zip(values_of.tolist(), bits_of, strict=True)
        ]
    assert np.array_equal(logits, before)


def test_a_mask_hides_no_damaged_logit() -> None:
    logits = np.zeros(VOCAB, np.float32)
    logits[5] = math.nan
    for text in ([1, 2], [3, 4], [5, 6], [7, 8]):
        constraint = FakeConstraint(VOCAB, END)
        constraint.tokens = text
        follower = Follower(FixedSource(constraint), len(text))
        sampler = Sampler(SamplingParams(temperature=0.0), 0, VOCAB, follower)
        if constraint.forced():  # nothing but the logit of the one token is looked at
            assert sampler.choose(logits, text, 0).token == constraint.forced()[0]
            logits[constraint.forced()[0]] = math.nan
        with pytest.raises(LogitsError, match="is nan"):
            sampler.choose(logits, text, 0)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0),
        SamplingParams(temperature=1.0),
        SamplingParams(temperature=1.0, top_k=3, top_p=0.5, min_p=0.3),
        SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
        SamplingParams(temperature=1.0, top_k=0, top_p=0.7, min_p=0.0, typical_p=0.5),
        SamplingParams(temperature=0.7, repeat_penalty=1.5, logit_bias={3: 5.0, 7: -5.0}),
    ],
)
def test_a_constraint_is_the_same_as_banning_with_logit_bias(params: SamplingParams) -> None:
    """All filters see allowed tokens only: banned ones take no part in top-k or top-p."""
    random = np.random.default_rng(5)
    for trial in range(60):
        text = random.integers(0, 60, 2).tolist()
        constraint = FakeConstraint(VOCAB, END)
        constraint.tokens = list(text)
        allowed = bits(constraint.mask())
        bias = dict(params.logit_bias)
        bias.update(dict.fromkeys(np.flatnonzero(~allowed).tolist(), -math.inf))
        logits = (random.standard_normal(VOCAB) * 4).astype(np.float32)
        follower = Follower(FixedSource(constraint), 2)
        ours = Sampler(params, trial, VOCAB, follower).choose(logits, text, 9)
        banned = {name: getattr(params, name) for name in params.__slots__}
        expected = Sampler(SamplingParams(**{**banned, "logit_bias": bias}), trial, VOCAB).choose(
            logits, text, 9
        )
        assert ours == expected
        assert allowed[ours.token]


def test_where_nothing_is_allowed_the_error_says_so() -> None:
    class Dead(FakeConstraint):
        def forced(self) -> list[int]:
            return []

        def mask(self) -> np.ndarray:  # type: ignore[type-arg]
            return np.zeros(12, np.uint8)

    sampler = Sampler(SamplingParams(), 0, VOCAB, Follower(FixedSource(Dead(VOCAB, END)), 0))
    with pytest.raises(LogitsError, match="no token that the grammar allows here"):
        sampler.choose(np.zeros(VOCAB, np.float32), [], 0)


SPELLINGS = [b"a", b"<", b"/t", b">", b"</t>", b"x</", b"t>y", b"", b"<<"]


@given(st.lists(st.integers(0, 8), max_size=14), st.lists(st.integers(0, 8), max_size=10))
def test_a_constraint_begins_behind_the_first_marker_wherever_tokens_end(
    tokens: list[int], tail: list[int]
) -> None:
    """The oracle joins the bytes of all tokens again for each prefix."""
    marker = b"</t>"

    def begins(ids: list[int]) -> int | None:
        joined = b""
        for index, token in enumerate(ids):
            joined += SPELLINGS[token]
            if marker in joined:
                return index + 1
        return None

    def expected_mask(ids: list[int]) -> bytes | None:
        begin = begins(ids)
        if begin is None:
            return None
        inner = FakeConstraint(VOCAB, END)
        inner.tokens = ids[begin:]
        return inner.mask().tobytes()

    constraint = After(FakeConstraint(VOCAB, END), marker, SPELLINGS)
    text: list[int] = []
    for token in tokens:
        if constraint.allowed([token]):
            constraint.accept(token)
            text.append(token)
        mask = constraint.mask()
        assert (None if mask is None else mask.tobytes()) == expected_mask(text)
    # Back through the marker, token by token.
    text += accept_allowed(constraint, tail)
    while text:
        constraint.rollback(1)
        text.pop()
        mask = constraint.mask()
        assert (None if mask is None else mask.tobytes()) == expected_mask(text)
    assert constraint.may_end
    assert constraint.forced() == []
