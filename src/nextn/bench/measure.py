"""Takes the times: every case after a warm-up, several times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from nextn.backends import Executor
from nextn.bench.limits import StepCosts, Work
from nextn.bench.sequences import Sequences
from nextn.bench.settings import Case

Progress = Callable[[int, int], None]
"""Told how many tokens are done, and how many there are."""

_WARM_STEPS = 4
STEPS_PER_TURN = 3
"""Steps of the verification curve that follow each other before the next number of rows."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The times of a case.

    Attributes:
        case: what was measured.
        seconds: of each repetition: of a whole prompt, of all decoded tokens, or of one step of
            the verification curve.
        work: what a repetition had to do at least.
    """

    case: Case
    seconds: tuple[float, ...]
    work: Work

    @property
    def median(self) -> float:
        """Median of the seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Median of the tokens per second."""
        return self.case.total_tokens / self.median

    @property
    def rate_spread(self) -> float:
        """Half the distance between the quartiles of the tokens per second."""
        return spread([self.case.total_tokens / seconds for seconds in self.seconds])


def spread(values: Sequence[float]) -> float:
    """Half the distance between the quartiles; 0 for a single value."""
    if len(values) < 2:
        return 0.0
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return (third - first) / 2


def lengths_needed(cases: Sequence[Case]) -> list[int]:
    """Positions of each sequence that the cases need; the first one serves them all."""
    count = max(case.sequences for case in cases)
    return [max(case.end for case in cases if case.sequences > n) for n in range(count)]


def measure(
    executor: Executor,
    cases: Sequence[Case],
    costs: StepCosts,
    *,
    repetitions: int,
    clock: Callable[[], float] = time.perf_counter,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure all cases, those of a depth together, the least depth first.

    The steps of a verification curve take turns, so that what else the machine does meets all of
    them; other cases are repeated one after the other.

    Args:
        executor: with room for `lengths_needed(cases)`.
        cases: what to measure.
        costs: what the steps have to do.
        repetitions: how often.
        clock: seconds; for tests.
        progress: is told about every repetition.

    Returns:
        The measurements, in the order of the cases.
    """
    sequences = Sequences(executor, lengths_needed(cases))
    timer = _Timer(clock, progress, _tokens_in_all(cases, repetitions))
    times: dict[Case, list[float]] = {case: [] for case in cases}
    for depth in sorted({case.depth for case in cases}):
        here = [case for case in cases if case.depth == depth]
        sequences.fill(depth, max(case.sequences for case in here), told=timer.tell)
        curve = [case for case in here if case.kind == "rows"]
        for case in here:
            if case.kind != "rows":
                _warm_up(sequences, case)
                for _ in range(repetitions):
                    times[case].append(timer.time(case, partial(_run, sequences, case)))
        for _ in range(repetitions):
            for case in curve:
                sequences.verify(case.tokens, depth)
                for _ in range(STEPS_PER_TURN):
                    times[case].append(timer.time(case, partial(_run, sequences, case)))
    return [
        Measurement(case, tuple(times[case]), _work(costs, case, executor.max_rows))
        for case in cases
    ]


class _Timer:
    """Times repetitions and tells how far they are."""

    def __init__(self, clock: Callable[[], float], progress: Progress | None, total: int) -> None:
        self._clock = clock
        self._progress = progress
        self._done = 0
        self._total = total

    def time(self, case: Case, work: Callable[[], None]) -> float:
        start = self._clock()
        work()
        seconds = self._clock() - start
        self.tell(case.total_tokens)
        return seconds

    def tell(self, tokens: int) -> None:
        self._done += tokens
        if self._progress is not None:
            self._progress(self._done, self._total)


def _tokens_in_all(cases: Sequence[Case], repetitions: int) -> int:
    """Tokens that are computed, fillings included, warm-ups not."""

    def counts() -> Iterator[int]:
        for case in cases:
            yield case.total_tokens * repetitions * (STEPS_PER_TURN if case.kind == "rows" else 1)
        for n in range(max(case.sequences for case in cases)):
            yield max(case.depth for case in cases if case.sequences > n)

    return sum(counts())


def _warm_up(sequences: Sequences, case: Case) -> None:
    if case.kind == "prompt":
        sequences.prompt(case.tokens, case.depth)
    else:
        for n in range(min(_WARM_STEPS, case.tokens)):
            sequences.decode(case.depth + n, case.sequences)


def _run(sequences: Sequences, case: Case) -> None:
    match case.kind:
        case "prompt":
            sequences.prompt(case.tokens, case.depth)
        case "decode":
            for n in range(case.tokens):
                sequences.decode(case.depth + n, case.sequences)
        case "rows":
            sequences.verify(case.tokens, case.depth)


def _work(costs: StepCosts, case: Case, most_rows: int) -> Work:
    match case.kind:
        case "prompt":
            return costs.prompt(case.tokens, case.depth, most_rows)
        case "decode":
            return costs.decode(case.tokens, case.depth, case.sequences)
        case "rows":
            return costs.step(case.tokens, case.depth, logits=case.tokens)
