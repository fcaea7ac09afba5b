import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.speculate import Draft
from nextn.speculate.acceptance import Calibration, ChainRecord, Survival
from nextn.speculate.useless import FirstTokens


def chain(*tokens: int) -> Draft:
    return Draft(list(tokens), [0.5] * len(tokens), "head", len(tokens), 1)


def test_survival_is_counted_by_depth() -> None:
    rng = random.Random(0)
    survival = Survival(0.5, 4.0, 1 - 1 / 500)
    for _ in range(3000):
        length = 0
        while length < 3 and rng.random() < (0.9, 0.6, 0.3)[length]:
            length += 1
        survival.add(length, ended=length < 3)
    assert survival.shares(3) == pytest.approx([0.9, 0.6, 0.3], abs=0.06)
    # Beyond what was counted, the last depth is assumed.
    assert survival.shares(5)[4] == pytest.approx(0.3, abs=0.06)


def test_a_group_is_the_prior_of_its_members() -> None:
    group = Survival(0.5, 4.0, 1 - 1 / 300)
    for _ in range(300):
        group.add(0, ended=True)
    member = Survival(group, 6.0, 1 - 1 / 60)
    assert member.shares(1) == group.shares(1)
    for _ in range(20):
        member.add(1, ended=False)
    assert 0.6 < member.shares(1)[0] < 0.9


def test_what_is_not_tried_for_long_becomes_uncertain_again() -> None:
    survival = Survival(0.6, 4.0, 1 - 1 / 60)
    for _ in range(100):
        survival.add(1, ended=True)
    sure = survival.hoped(1)
    for _ in range(300):
        survival.add(1, ended=False)
    assert sure < 0.2
    assert survival.hoped(1) > 0.6


@pytest.mark.parametrize(
    ("guess", "limit", "verified", "written", "right"),
    [
        ((1, 2, 3), 3, 3, [1, 2, 3, 4], [1, 1, 1]),
        ((1, 2, 9), 3, 3, [1, 2, 3], [1, 1, 0]),
        # One token beyond the verified ones is known: it is the trunk's own.
        ((1, 2, 3), 3, 1, [1, 2], [1, 1, None]),
        ((1, 9, 3), 3, 1, [1, 2], [1, 0, None]),
        ((9, 2, 3), 3, 0, [1], [0, None, None]),
        # A chain that ended early says nothing about what would have followed.
        ((1,), 3, 1, [1, 2], [1, None, None]),
        # The text ended.
        ((1, 2, 3), 3, 3, [1], [1, None, None]),
        ((1, 2, 3), 3, 0, [], [None, None, None]),
    ],
)
def test_every_known_token_is_judged_and_no_other(
    guess: tuple[int, ...],
    limit: int,
    verified: int,
    written: list[int],
    right: list[int | None],
) -> None:
    record = ChainRecord()
    before = record._right.shares(3)
    for _ in range(300):
        record.add(chain(*guess), limit, verified, written)
    known = [item for item in right if item is not None]
    shares = record._right.shares(3)
    assert shares[: len(known)] == pytest.approx(known, abs=0.05)
    if not known:
        assert shares == before


def test_the_outlook_counts_passes_rows_and_right_tokens() -> None:
    record = ChainRecord()
    for _ in range(1000):
        record.add(chain(1, 9), 4, 1, [1, 2])  # ended after two, one was verified
    outlook = record.outlook(3)
    assert [passes for _, _, passes in outlook] == pytest.approx([1, 1, 0], abs=0.06)
    assert [rows for _, rows, _ in outlook] == pytest.approx([1, 0, 0], abs=0.06)
    assert [tokens for tokens, _, _ in outlook] == pytest.approx([1, 0, 0], abs=0.06)


def test_calibration_is_the_ratio_of_right_to_expected() -> None:
    calibration = Calibration(1.25)
    for step in range(400):
        calibration.add(0.8, step % 5 < 2)
    assert calibration.factor == pytest.approx(0.5, abs=0.05)
    for _ in range(400):
        calibration.add(0.3, True)
    assert calibration.factor == 1.25


def test_a_drafter_is_useless_when_no_chance_that_it_may_have_pays() -> None:
    first = FirstTokens()
    for number in range(199):
        first.add(number == 50)
        assert first.due == (number >= 39 and (number - 39) % 20 == 0)
    first.add(False)
    assert first.due
    useless = first.verdict("head", 0.07)
    assert useless is not None
    assert str(useless) == "the head is useless here: 1 of 200 drafts accepted"
    # The upper bound of 1 in 200 is about 5 %.
    assert first.verdict("head", 0.05) is None
    for number in range(60):
        first.add(number < 20)
    assert first.due
    assert first.verdict("head", 0.07) is None


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=80), st.integers(1, 8))
def test_old_chains_fade(chains: list[tuple[int, bool]], depths: int) -> None:
    memory, weight, prior = 0.5, 2.0, 0.6
    survival = Survival(prior, weight, memory)
    reached, survived = [0.0] * 10, [0.0] * 10
    for length, ended in chains:
        survival.add(length, ended)
        for depth in range(10):
            reached[depth] = reached[depth] * memory + (depth < length + ended)
            survived[depth] = survived[depth] * memory + (depth < length)
    expected = []
    for depth in range(depths):
        prior = (survived[depth] + weight * prior) / (reached[depth] + weight)
        expected.append(prior)
    assert survival.shares(depths) == pytest.approx(expected)
