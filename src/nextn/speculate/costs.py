"""What a step costs by its number of rows, relative to other numbers of rows.

Only ratios decide how deep to speculate, and ratios hold still while absolute times do not: the
clock of the machine changes, its other users come and go, the context grows. So each measured time
is split into a *level*, common to all row counts, and a *ratio* of its own row count.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import median_low

PRIOR_SLOPE = 0.12
"""Cost of one more row, in steps of one row, that is assumed until it is measured."""

STALE_STEPS = 256
"""A cost that was not measured for so many steps is uncertain."""

_HOPE = 0.75  # an uncertain cost may turn out to be lower by this factor
_FIRST_SAMPLES = 5  # of which the lower median is taken: noise makes steps slower, not faster
_SURE = 3  # measurements
_LEVEL_GAIN = 0.2
_RATIO_GAIN = 0.1
_SHARE_GAIN = 0.05
_CURVE_STEPS = 8  # the curve is drawn anew after so many steps
_LARGEST_RESIDUAL = 2.0  # in typical residuals; larger ones count as this


def prior_cost(rows: int) -> float:
    """The assumed cost of a step, in steps of one row."""
    return 1.0 + PRIOR_SLOPE * (rows - 1)


class _Entry:
    """One measured number of rows."""

    __slots__ = ("count", "log_ratio", "samples", "seen", "share")

    def __init__(self, log_ratio: float, samples: list[float]) -> None:
        self.log_ratio = log_ratio
        self.samples = samples
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
        self._entries: dict[int, _Entry] = {}  # by rows
        self._curve: tuple[list[int], list[float]] | None = None
        self._costs: dict[int, float] = {}  # what was read from the curve

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one step.

        Args:
            rows: its number of rows, >= 1.
            seconds: its measured time, > 0.
        """
        self.steps += 1
        measured = math.log(seconds)
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
        if len(entry.samples) <= _FIRST_SAMPLES or self.steps % _CURVE_STEPS == 0:
            self._curve = None
            self._costs.clear()

        residual = measured - self._level - entry.log_ratio
        limit = _LARGEST_RESIDUAL * self._typical
        clipped = min(max(residual, -limit), limit)
        if len(entry.samples) < _FIRST_SAMPLES:
            entry.samples.append(measured - self._level)
            entry.log_ratio = median_low(entry.samples)
            return
        # The clip may grow by a quarter per step, so that lasting changes get through soon.
        self._typical += 0.1 * (min(abs(residual), 3.5 * self._typical) - self._typical)
        self._typical = max(self._typical, 0.003)
        self._level += _LEVEL_GAIN * entry.share * clipped
        entry.log_ratio += _RATIO_GAIN * (1.0 - entry.share) * clipped

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

    def hoped(self, rows: int) -> float:
        """What the cost may turn out to be: below `cost` if that was not measured well and lately.

        It may be lower by a quarter, by more the longer ago it was measured, and so low that the
        last row costs half of what is assumed of one row.
        """
        cost = self.cost(rows)
        entry = self._entries.get(rows)
        age = 1.0
        if entry is not None and len(entry.samples) >= _SURE:
            age = (self.steps - entry.seen) / STALE_STEPS
            if age < 1.0:
                return cost
        lower = cost * math.pow(_HOPE, age)
        if rows == 1:
            return lower
        less = self.cost(rows - 1) / prior_cost(rows - 1)
        return min(lower, less * (prior_cost(rows - 1) + PRIOR_SLOPE / 2))

    def cost(self, rows: int) -> float:
        """The cost of a step: measured, or interpolated; it never falls as rows are added."""
        known = self._costs.get(rows)
        if known is None:
            known = self._costs[rows] = self._read(rows)
        return known

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
