from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextn.backends.base import Rows, check_rows
from nextn.backends.drafting import Chains, Drafted, check_chains
from nextn.engine import Engine
from nextn.engine.calibrate import measure_drafts, measure_steps
from tests.support.fake_executor import FakeTokenizer


class TimedExecutor:
    """Steps that take a known time, and compute nothing."""

    has_head = False
    vocab_size = 8
    max_rows = 64

    def __init__(self, seconds: float, context_length: int = 4096) -> None:
        self.seconds = seconds
        self.context_length = context_length
        self.block_count = context_length // 32 + 1
        self.now = 0.0
        self.steps = 0

    def step(self, rows: Rows) -> np.ndarray[Any, Any]:
        check_rows(rows, self)
        assert rows.wants_logits.all()
        assert rows.positions.max() < self.context_length
        count = len(rows.tokens)
        self.now += self.seconds * (0.9 + 0.1 * count + rows.positions[0] / 4000 * count)
        self.steps += 1
        return np.zeros((count, self.vocab_size), np.float32)

    def draft(self, rows: Rows, chains: Chains) -> Drafted:
        check_chains(rows, chains, block_count=self.block_count)
        self.now += self.seconds * (0.2 + 0.1 * int(chains.depths.sum()))
        return Drafted.empty(chains)


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.04])
def test_steps_are_measured_for_as_long_as_the_time_allows(seconds: float) -> None:
    executor = TimedExecutor(seconds)
    times = measure_steps(executor, 0.25, lambda: executor.now)  # type: ignore[arg-type]
    assert executor.now < 0.25 + 5 * seconds
    assert {1, 2} <= {time.rows for time in times}
    if seconds < 0.04:
        assert {(1, 1024), (8, 1024), (16, 0)} <= {(time.rows, time.context) for time in times}
    for time in times:
        cost = 0.9 + 0.1 * time.rows + time.context / 4000 * time.rows
        assert time.seconds == pytest.approx(seconds * cost)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.002, 1), (0.0005, 2), (0.0001, 3)])
def test_quick_steps_are_measured_in_few_rounds(seconds: float, rounds: int) -> None:
    executor = TimedExecutor(seconds)
    times = measure_steps(executor, 0.25, lambda: executor.now)  # type: ignore[arg-type]
    assert [time.rows for time in times if not time.context].count(1) == 2 * rounds
    assert executor.now < 0.1


def test_a_model_that_is_too_slow_is_left_alone_after_two_steps() -> None:
    executor = TimedExecutor(1.0)
    assert measure_steps(executor, 0.25, lambda: executor.now) == []  # type: ignore[arg-type]
    assert executor.steps == 2


def test_a_short_context_and_few_rows_are_respected() -> None:
    executor = TimedExecutor(0.001, context_length=64)
    executor.max_rows = 3
    times = measure_steps(executor, 0.25, lambda: executor.now)  # type: ignore[arg-type]
    assert {(time.rows, time.context) for time in times} == {(1, 0), (2, 0), (3, 0)}


def test_drafts_are_measured_after_steps() -> None:
    executor = TimedExecutor(0.001)
    assert measure_drafts(executor, lambda: executor.now) == []  # type: ignore[arg-type]
    executor.has_head = True
    times = measure_drafts(executor, lambda: executor.now)  # type: ignore[arg-type]
    assert executor.steps == len(times)
    for time in times:
        assert time.seconds == pytest.approx(0.0002 + 0.0001 * time.passes)


def test_drafts_of_a_slow_model_do_not_hold_up_its_start() -> None:
    executor = TimedExecutor(0.06)
    executor.has_head = True
    assert len(measure_drafts(executor, lambda: executor.now)) == 1  # type: ignore[arg-type]


def test_an_engine_is_calibrated_once_its_cache_is_empty() -> None:
    executor = TimedExecutor(0.0)
    engine = Engine(executor, FakeTokenizer())  # type: ignore[arg-type]
    held = engine.cache.open([1, 2])
    held.reserve(1)
    engine.calibrate(0.01)
    assert executor.steps == 0
    held.release()
    engine.calibrate(0.01)
    assert executor.steps > 2
