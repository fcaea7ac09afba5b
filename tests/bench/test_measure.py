from __future__ import annotations

import statistics

import pytest

from nextn.bench import Case, Settings, StepCosts, measure
from nextn.bench.measure import STEPS_PER_TURN, lengths_needed, spread
from nextn.bench.sequences import blocks_needed
from tests.support.fake_executor import FakeExecutor

COSTS = StepCosts(1000, 2000, 100, 200, ((4.0, None), (4.0, 8)))


class FakeTime:
    """A clock that moves when steps run: a millisecond per step, and a microsecond per row."""

    def __init__(self, executor: FakeExecutor) -> None:
        self.now = 0.0
        self._executor = executor
        executor.on_step = self._advance

    def __call__(self) -> float:
        return self.now

    def _advance(self) -> None:
        self.now += 1e-3 + 1e-6 * len(self._executor.steps[-1].tokens)


def executor_for(cases: list[Case], max_rows: int = 16) -> FakeExecutor:
    lengths = lengths_needed(cases)
    return FakeExecutor(
        context_length=max(lengths), block_count=blocks_needed(lengths), max_rows=max_rows
    )


def test_times_are_those_of_the_steps() -> None:
    # The fake executor refuses positions whose history was not computed.
    cases = Settings(
        prompt=40, generate=5, depths=(0, 48), batches=(1, 3), rows=4, repetitions=3
    ).cases(128)
    executor = executor_for(cases)
    measured = measure(executor, cases, COSTS, repetitions=3, clock=FakeTime(executor))
    assert [one.case for one in measured] == cases
    expected = {"prompt": 3e-3 + 40e-6, "decode": 5e-3}  # 40 rows are three steps of at most 16
    for one in measured:
        rows = one.case.total_tokens * 1e-6
        if one.case.kind == "prompt":
            assert one.seconds == pytest.approx((expected["prompt"],) * 3)
        elif one.case.kind == "decode":
            assert one.seconds == pytest.approx((expected["decode"] + rows,) * 3)
            assert one.rate == pytest.approx(one.case.total_tokens / (5e-3 + rows))
        else:
            assert one.seconds == pytest.approx((1e-3 + rows,) * (3 * STEPS_PER_TURN))


def test_steps_are_at_their_depth_and_want_the_logits_that_are_needed() -> None:
    cases = [Case("prompt", 20, 32), Case("decode", 2, 32, sequences=2), Case("rows", 3, 32)]
    executor = executor_for(cases)
    measure(executor, cases, COSTS, repetitions=1, clock=FakeTime(executor))
    shapes = [
        (rows.positions.tolist(), rows.slots.tolist(), rows.wants_logits.tolist())
        for rows in executor.steps
    ]
    filling = [(0, 16), (16, 32)]
    for sequence in (0, 1):
        for start, end in filling:
            wanted = list(range(start, end)), [sequence] * 16, [False] * 16
            assert shapes.pop(0) == wanted
    assert shapes.pop(0) == (list(range(32, 48)), [0] * 16, [False] * 16)
    assert shapes.pop(0) == (list(range(48, 52)), [0] * 4, [False, False, False, True])
    del shapes[:2]  # the prompt itself
    assert shapes.pop(0) == ([32, 32], [0, 1], [True, True])
    assert shapes.pop(0) == ([33, 33], [0, 1], [True, True])
    del shapes[:2]
    assert shapes == [([32, 33, 34], [0, 0, 0], [True] * 3)] * (1 + STEPS_PER_TURN)


def test_progress_ends_at_the_total() -> None:
    cases = Settings(prompt=8, generate=3, depths=(0, 20), batches=(2,), rows=2).cases(64)
    executor = executor_for(cases)
    told: list[tuple[int, int]] = []
    measure(
        executor,
        cases,
        COSTS,
        repetitions=2,
        clock=FakeTime(executor),
        progress=lambda done, total: told.append((done, total)),
    )
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert {total for _, total in told} == {done[-1]}


def test_only_sequences_of_a_batch_have_room() -> None:
    cases = [Case("decode", 4, 100), Case("decode", 4, 0, sequences=3)]
    assert lengths_needed(cases) == [104, 4, 4]


def test_spread_is_half_the_distance_of_the_quartiles() -> None:
    assert spread([3.0]) == 0
    values = [1.0, 2.0, 4.0, 8.0, 16.0]
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    assert spread(values) == (third - first) / 2 == 3.0
