from __future__ import annotations

import random

import pytest

from nextn.speculate.change import ChangeDetector


def alarms(detector: ChangeDetector, expected: float, true: float, tokens: int) -> int:
    rng = random.Random(int(100 * expected) + 7)
    return sum(detector.add(expected, rng.random() < true) for _ in range(tokens))


@pytest.mark.parametrize("chance", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_chances_that_hold_are_hardly_ever_rejected(chance: float) -> None:
    assert alarms(ChangeDetector(), chance, chance, 20_000) < 20_000 / 600


@pytest.mark.parametrize(("before", "after"), [(0.85, 0.15), (0.15, 0.85), (0.6, 0.1), (0.3, 0.8)])
def test_a_large_change_is_noticed_within_a_few_tokens(before: float, after: float) -> None:
    rng = random.Random(1)
    delays = []
    for _ in range(200):
        detector = ChangeDetector()
        for _ in range(100):
            detector.add(before, rng.random() < before)
        delays.append(1)
        while not detector.add(before, rng.random() < after):
            delays[-1] += 1
    assert sum(delays) / len(delays) < 15


def test_a_single_exception_proves_nothing() -> None:
    for expected, right in ((1.0, False), (0.0, True)):
        detector = ChangeDetector()
        assert not any(detector.add(expected, not right) for _ in range(1000))
        assert not detector.add(expected, right)


def test_after_an_alarm_the_test_begins_anew() -> None:
    detector = ChangeDetector()
    while not detector.add(0.85, False):
        pass
    assert not detector.add(0.85, False)
