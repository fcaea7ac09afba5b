"""What a step costs by its rows and their context, relative to other steps.

Only ratios decide how deep to speculate, and ratios hold still while absolute times do not: the
clock of the machine changes, its other users come and go. So each measured time is split into a
*level*, common to all steps, and a cost in units of it:

    cost(rows, context) = ratio(rows) + context * (first + further * (rows - 1))

The second part is attention, which reads `context` keys for every row: the rows of a sequence share
part of that work, hence two numbers. They are measured at load (`prime`) and kept; what they get
wrong later goes into the ratios, which every step corrects.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_low

PRIOR_SLOPE = 0.12
"""Cost of one more row, in steps of one row, that is assumed until it is measured."""

STALE_STEPS = 512
"""A cost that was not measured for so many steps is uncertain."""

_HOPE = 0.75  # an uncertain cost may turn out to be lower by this factor
_FIRST_SAMPLES = 5  # of which the lower median is taken: noise makes steps slower, not faster
_SURE = 3  # measurements
_LEVEL_GAIN = 0.2
_RATIO_GAIN = 0.1
_SHARE_GAIN = 0.05
_LEAST_RATIO = 0.05  # of a step without its attention
_REDRAWN = 0.005  # change of a log ratio that the curve does not follow yet
_LARGEST_RESIDUAL = 2.0  # in typical residuals; larger ones count as this


def prior_cost(rows: int) -> float:
    """The assumed cost of a step, in steps of one row."""
    return 1.0 + PRIOR_SLOPE * (rows - 1)


@dataclass(frozen=True, slots=True)
class StepTime:
    """The measured time of one step.

    Attributes:
        rows: its number of rows, all of which wanted logits.
        context: positions before them.
        seconds: its time, > 0.
    """

    rows: int
    context: int
    seconds: float


class _Entry:
    """One measured number of rows."""

    __slots__ = ("count", "drawn", "log_ratio", "samples", "seen", "share")

    def __init__(self, log_ratio: float, samples: list[float]) -> None:
        self.log_ratio = log_ratio
        self.samples = samples
        self.drawn = math.nan  # what the curve has of it
        self.count = 0
        self.seen = 0  # the step of its last measurement
        self.share = 0.0  # of the recent steps that had this number of rows


class StepCosts:
    """Learns cost ratios from measured steps; robust to steps that some noise made slow.

    A row count that is new, or was not measured for long, starts from the lower median of its next
    measurements and of what was assumed so far. From then on the deviation of a measurement from
    the table is clipped to twice the typical one and attributed to the level as far as recent steps
    were of this row count, and to the ratio as far as they were not: a run of equal steps says
    nothing about ratios, whereas a single step among others is measured against them.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._level = 0.0  # log seconds of a step of cost 1
        self._typical = 0.05  # residual of log seconds
        self._first_key = 0.0  # cost of one key of context, for the first row
        self._further_key = 0.0  # and for every further row
        self._entries: dict[int, _Entry] = {}  # by rows
        self._curve: tuple[list[int], list[float]] | None = None
        self._costs: dict[int, float] = {}  # what was read from the curve

    def prime(self, times: Iterable[StepTime]) -> None:
        """Start from times that were measured at load; of equal steps the lower median counts.

        Args:
            times: steps of several numbers of rows, 1 among them, at the start of a text; and steps
                of the fewest and the most of these rows at a larger context. What is missing is
                assumed.
        """
        samples: dict[tuple[int, int], list[float]] = {}
        for time in times:
            samples.setdefault((time.rows, time.context), []).append(time.seconds)
        near = min((context for _, context in samples), default=0)
        if (1, near) not in samples:
            return
        medians = {step: median_low(seconds) for step, seconds in samples.items()}
        unit = medians[1, near]
        # What a key of context adds to the step, by its rows; in order of rows.
        growth = [
            (rows, max(seconds - medians[rows, near], 0.0) / (unit * (context - near)))
            for (rows, context), seconds in sorted(medians.items())
            if context > near and (rows, near) in medians
        ]
        if growth and growth[0][0] == 1:
            self._first_key = growth[0][1]
            most, slope = growth[-1]
            self._further_key = max(slope - self._first_key, 0.0) / max(most - 1, 1)
        self._level = math.log(unit)
        self._entries.clear()
        for (rows, context), seconds in samples.items():
            if context == near:
                ratios = [math.log(each / unit) for each in seconds[:_FIRST_SAMPLES]]
                entry = self._entries[rows] = _Entry(median_low(ratios), ratios)
                entry.count = len(ratios)
                entry.seen = self.steps
        self._draw_anew()

    def observe(self, rows: int, seconds: float, context: float = 0.0) -> None:
        """Learn from one step.

        Args:
            rows: its number of rows, >= 1.
            seconds: its measured time, > 0.
            context: positions before its rows, on average.
        """
        self.steps += 1
        measured = math.log(seconds)
        attention = self._attention(rows, context)
        entry = self._entries.get(rows)
        if entry is None:
            assumed = math.log(self.cost(rows))
            if not self._entries:
                self._level = measured - assumed
                entry = _Entry(assumed, [])
            else:
                entry = _Entry(assumed, [assumed])
            self._entries[rows] = entry
        if self.steps - entry.seen > STALE_STEPS and entry.count > 0:
            entry.samples = [entry.log_ratio]  # it may have changed: begin again
        entry.share *= (1 - _SHARE_GAIN) ** (self.steps - entry.seen)
        entry.share += _SHARE_GAIN
        entry.count += 1
        entry.seen = self.steps
        residual = measured - self._level - math.log(math.exp(entry.log_ratio) + attention)
        limit = _LARGEST_RESIDUAL * self._typical
        clipped = min(max(residual, -limit), limit)
        if len(entry.samples) < _FIRST_SAMPLES:
            ratio = math.exp(measured - self._level) - attention
            entry.samples.append(math.log(max(ratio, _LEAST_RATIO)))
            entry.log_ratio = median_low(entry.samples)
            self._draw_anew()
            return
        # The clip may grow by a quarter per step, so that lasting changes get through soon.
        self._typical += 0.1 * (min(abs(residual), 3.5 * self._typical) - self._typical)
        self._typical = max(self._typical, 0.003)
        self._level += _LEVEL_GAIN * entry.share * clipped
        entry.log_ratio += _RATIO_GAIN * (1.0 - entry.share) * clipped
        if not abs(entry.log_ratio - entry.drawn) <= _REDRAWN:
            self._draw_anew()

    def _draw_anew(self) -> None:
        self._curve = None
        self._costs.clear()

    def relative_seconds(self, seconds: float) -> float:
        """A measured time as a cost; 1 before anything was measured."""
        return seconds / math.exp(self._level) if self._entries else 1.0

    @property
    def largest(self) -> int:
        """The largest measured row count; 0 before any."""
        return max(self._entries, default=0)

    def measurements(self, rows: int) -> int:
        """How often this row count was measured."""
        entry = self._entries.get(rows)
        return 0 if entry is None else entry.count

    def hoped(self, rows: int, context: float = 0.0) -> float:
        """What the cost may turn out to be: below `cost` if that was not measured well and lately.

        It may be lower by a quarter, by more the longer ago it was measured, and so low that the
        last row costs half of what is assumed of one row.
        """
        attention = self._attention(rows, context)
        cost = self.cost(rows)
        entry = self._entries.get(rows)
        age = 1.0
        if entry is not None and len(entry.samples) >= _SURE:
            age = (self.steps - entry.seen) / STALE_STEPS
            if age < 1.0:
                return cost + attention
        lower = cost * math.pow(_HOPE, age)
        if rows > 1:
            less = self.cost(rows - 1) / prior_cost(rows - 1)
            lower = min(lower, less * (prior_cost(rows - 1) + PRIOR_SLOPE / 2))
        return lower + attention

    def cost(self, rows: int, context: float = 0.0) -> float:
        """The cost of a step: measured, or interpolated; it never falls as rows are added."""
        known = self._costs.get(rows)
        if known is None:
            known = self._costs[rows] = self._read(rows)
        return known + self._attention(rows, context) if context else known

    def added(self, rows: int, context: float, most: int) -> list[float]:
        """What 0, 1, ... `most` further rows add to the cost of a step of so many rows."""
        # As `cost` does, but without a call for each: this is asked several times a step.
        known = self._costs
        costs = [known.get(each) or self.cost(each) for each in range(rows, rows + most + 1)]
        base, further = costs[0], context * self._further_key
        return [cost - base + further * more for more, cost in enumerate(costs)]

    def _attention(self, rows: int, context: float) -> float:
        return context * (self._first_key + self._further_key * (rows - 1))

    def _read(self, rows: int) -> float:
        if self._curve is None:
            self._curve = self._monotone_curve()
        xs, ys = self._curve
        if not xs:
            return prior_cost(rows)
        right = bisect_left(xs, rows)
        if right < len(xs) and xs[right] == rows:
            return ys[right]
        if right == 0:
            return ys[0] * prior_cost(rows) / prior_cost(xs[0])
        if right == len(xs):
            return ys[-1] * prior_cost(rows) / prior_cost(xs[-1])
        x0, x1, y0, y1 = xs[right - 1], xs[right], ys[right - 1], ys[right]
        return y0 + (y1 - y0) * (rows - x0) / (x1 - x0)

    def _monotone_curve(self) -> tuple[list[int], list[float]]:
        """Isotonic regression of the measured ratios (pool adjacent violators)."""
        pools: list[tuple[float, int, list[int]]] = []  # (mean, weight, row counts)
        for rows in sorted(self._entries):
            entry = self._entries[rows]
            entry.drawn = entry.log_ratio
            mean, weight, members = math.exp(entry.log_ratio), min(entry.count, 20), [rows]
            while pools and pools[-1][0] > mean:
                before_mean, before_weight, before_members = pools.pop()
                total = before_weight + weight
                mean = (before_mean * before_weight + mean * weight) / total
                weight, members = total, before_members + members
            pools.append((mean, weight, members))
        xs = [rows for _, _, members in pools for rows in members]
        ys = [mean for mean, _, members in pools for _ in members]
        return xs, ys
