"""Several sequences draft only as long as whole steps say that it pays."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from nextn.speculate import Switch


def steps_that_drafted(
    switch: Switch, sequences: int, steps: int, outcome: Callable[[int, bool], tuple[int, float]]
) -> int:
    """How many drafted, when a step brings the tokens and takes the seconds that are given."""
    drafted = 0
    for step in range(steps):
        drafts = switch.drafts(sequences)
        drafted += drafts
        switch.observe(sequences, *outcome(step, drafts))
    return drafted


def run(switch: Switch, sequences: int, steps: int, drafting: float, plain: float) -> float:
    """The share of the steps that drafted, when these bring so many tokens per second.

    Times are noisy, and some steps are held up.
    """
    noise = random.Random(1)

    def outcome(step: int, drafts: bool) -> tuple[int, float]:
        del step
        tokens = sequences * 2 if drafts else sequences
        seconds = tokens / (drafting if drafts else plain) * noise.uniform(0.9, 1.1)
        return tokens, seconds * (20.0 if noise.random() < 0.01 else 1.0)

    return steps_that_drafted(switch, sequences, steps, outcome) / steps


@pytest.mark.parametrize("sequences", [2, 3, 16])
def test_the_faster_way_is_kept(sequences: int) -> None:
    assert run(Switch(), sequences, 10_000, 120.0, 100.0) > 0.93
    assert run(Switch(), sequences, 10_000, 80.0, 100.0) < 0.07


def test_a_way_that_is_a_little_faster_is_found() -> None:
    assert run(Switch(), 4, 30_000, 106.0, 100.0) > 0.8
    assert run(Switch(), 4, 30_000, 94.0, 100.0) < 0.2


def test_a_time_in_which_all_is_slower_does_not_decide() -> None:
    def outcome(step: int, drafts: bool) -> tuple[int, float]:
        # For two seconds in five, the machine has other things to do.
        slower = 1.5 if step // 40 % 5 < 2 else 1.0
        tokens = 16 if drafts else 8
        return tokens, tokens / (110.0 if drafts else 100.0) * slower

    assert steps_that_drafted(Switch(), 8, 20_000, outcome) > 14_000


def test_a_change_is_followed_both_ways() -> None:
    switch = Switch()
    run(switch, 8, 3000, 150.0, 100.0)
    run(switch, 8, 4500, 60.0, 100.0)
    assert run(switch, 8, 3000, 60.0, 100.0) < 0.1
    run(switch, 8, 4500, 150.0, 100.0)
    assert run(switch, 8, 3000, 150.0, 100.0) > 0.9


@pytest.mark.parametrize(("drafting", "share"), [(80.0, 0.0085), (125.0, 0.994)])
def test_what_was_found_again_and_again_is_seldom_tried(drafting: float, share: float) -> None:
    switch = Switch()
    run(switch, 8, 10_000, drafting, 100.0)
    drafted = run(switch, 8, 50_000, drafting, 100.0)
    assert drafted < share if drafting < 100.0 else drafted > share


def test_numbers_of_sequences_are_told_apart() -> None:
    switch = Switch()
    run(switch, 16, 2000, 80.0, 100.0)
    assert switch.drafts(2)
    assert run(switch, 2, 5000, 130.0, 100.0) > 0.9
    assert run(switch, 16, 5000, 80.0, 100.0) < 0.1


def test_one_sequence_is_left_to_the_depth_controller() -> None:
    switch = Switch()
    assert run(switch, 1, 1000, 50.0, 100.0) == 1.0


def test_a_trial_ends_when_it_is_clear_which_way_is_faster() -> None:
    # The first step is not counted, and four after each change.
    assert run(Switch(), 8, 1000, 60.0, 100.0) * 1000 == 1 + 4 + 16
    assert run(Switch(), 8, 1000, 140.0, 100.0) * 1000 == 1000 - 16


def test_a_trial_of_equal_ways_ends() -> None:
    drafted = run(Switch(), 8, 1000, 100.0, 100.0) * 1000
    assert drafted in (1 + 8 * 48, 1000 - 8 * 16)


def test_parts_of_texts_that_gain_nothing_do_not_decide() -> None:
    def outcome(step: int, drafts: bool) -> tuple[int, float]:
        # Of forty steps, drafts bring much in ten and cost a little in the others.
        gain = 1.9 if step % 40 < 10 else 0.9
        return int(4 * gain * 10) if drafts else 40, 40 / 100.0

    assert steps_that_drafted(Switch(), 4, 20_000, outcome) > 0.9 * 20_000
