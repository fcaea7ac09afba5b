"""Measures, right after a model was loaded, what steps and drafts cost."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from nextn.backends.base import BLOCK_TOKENS, Executor, Rows
from nextn.backends.drafting import Chains
from nextn.speculate import DraftTime, StepTime

CALIBRATION_SECONDS = 0.25
"""The most that it takes: a slow model needs it to measure every case once."""

_ENOUGH_SECONDS = 0.03  # after which no further round begins: people wait for their first token

_ROWS = (1, 2, 4, 8, 3, 16)  # the most telling first: a slow model gets no further
_FAR = 1024  # positions, for the steps that show what context costs
_FAR_ROWS = (1, 8)
_ROUNDS = 3
_DRAFT_DEPTHS = (1, 2)
_DRAFT_ROUNDS = 3
_DRAFT_SECONDS = 0.05  # after which no further draft begins
_BURST = 3  # equal steps, of which the first does not count


def measure_steps(
    executor: Executor,
    seconds: float = CALIBRATION_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[StepTime]:
    """Run steps of one sequence, in rounds of bursts: one round, or more if they are short.

    The keys and values of the context are whatever the cache holds, which is zeros after loading:
    only the time matters. The blocks are those that the first text will use, so that no memory is
    touched which would not be needed soon.

    Args:
        executor: with a cache that nobody uses.
        seconds: the time that it may take; the step that is running when it ends is finished.
        clock: the time, in seconds.

    Returns:
        The times; none if even the first steps, which warm up, took too long.
    """
    last = executor.context_length - max(_ROWS)
    cases = [(rows, 0) for rows in _ROWS if rows <= min(executor.max_rows, last)]
    far = min(_FAR, last) // BLOCK_TOKENS * BLOCK_TOKENS
    if far >= 8 * BLOCK_TOKENS:
        cases += [(rows, far) for rows in _FAR_ROWS if (rows, 0) in cases]
    begin = clock()
    end = begin + seconds
    for _ in range(2):
        started = clock()
        executor.step(_step(1, 0))
    slowest = clock() - started
    # A step is faster after others like it, as when texts are written.
    burst = _BURST if slowest * _BURST * 2 * len(cases) < seconds else 1
    times: list[StepTime] = []
    for _ in range(_ROUNDS):
        for rows, context in cases:
            step = _step(rows, context)
            for number in range(burst):
                before = clock()
                # No step is begun that would probably not be done in time.
                if before + slowest > end:
                    return times
                executor.step(step)
                took = clock() - before
                slowest = max(slowest, took)
                if number or burst == 1:
                    times.append(StepTime(rows, context, took))
        if clock() - begin > _ENOUGH_SECONDS:
            break
    return times


def measure_drafts(
    executor: Executor, clock: Callable[[], float] = time.perf_counter
) -> list[DraftTime]:
    """Run short chains of the executor's head, if it has one, each after a step of one row.

    After a step, as when texts are written: the weights of the trunk have gone through the
    processor's caches since the head was last asked.

    Args:
        executor: with a cache that nobody uses.
        clock: the time, in seconds.
    """
    if not executor.has_head or executor.context_length <= max(_DRAFT_DEPTHS):
        return []
    step = _step(1, 0)
    times: list[DraftTime] = []
    end = clock() + _DRAFT_SECONDS
    for _ in range(_DRAFT_ROUNDS):
        for depth in _DRAFT_DEPTHS:
            if clock() > end:
                return times
            executor.step(step)
            before = clock()
            executor.draft(step, Chains.greedy(depth))
            times.append(DraftTime(depth, clock() - before))
    return times


def _step(rows: int, context: int) -> Rows:
    """Rows of one sequence after `context` positions; all want logits."""
    positions = np.arange(context, context + rows, dtype=np.int32)
    blocks = (context + rows - 1) // BLOCK_TOKENS + 1
    return Rows(
        np.zeros(rows, np.int32),
        positions,
        np.zeros(rows, np.int32),
        np.ones(rows, np.bool_),
        np.arange(blocks, dtype=np.int32)[np.newaxis],
    )
