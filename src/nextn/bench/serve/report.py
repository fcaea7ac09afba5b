"""What was measured, by load and side, as tables for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nextn.bench.serve.client import Answer
from nextn.bench.serve.measure import Measurements, Run
from nextn.bench.serve.settings import Settings
from nextn.bench.tables import Row, aligned, markdown

TIMES = ("ttft", "tpot", "itl", "e2e")

_HEAD = (
    "SIDE",
    "ANSWERED",
    "TOKENS/S",
    "RATIO",
    "REQUESTS/S",
    "GOOD/S",
    *(name.upper() for name in TIMES),
)


@dataclass(frozen=True, slots=True)
class Spread:
    """How times are spread, in seconds; all 0 where there are none.

    Attributes:
        mean: of all.
        median: half of them are shorter.
        p99: 99 of 100 are shorter.
    """

    mean: float = 0.0
    median: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, times: Sequence[float]) -> Spread:
        """That of some times."""
        if not times:
            return cls()
        median, p99 = np.percentile(times, (50, 99))
        return cls(float(np.mean(times)), float(median), float(p99))


class Summary:
    """One run in figures.

    Args:
        run: what was answered.
        limits: by name, seconds within which a good request stays.
        first: the summary of the first side at the same load; None if this is it.

    Attributes:
        good: the answers without an error.
    """

    def __init__(self, run: Run, limits: dict[str, float], first: Summary | None) -> None:
        self.run = run
        self._limits = limits
        self._first = first
        self.good = [answer for answer in run.answers if answer.error is None]

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all answers over the time of the whole run."""
        tokens = sum(answer.tokens for answer in self.good)
        return tokens / self.run.seconds if self.run.seconds else 0.0

    @property
    def ratio(self) -> float:
        """The same as a multiple of the first side's."""
        if self._first is None or not self._first.tokens_per_second:
            return 1.0
        return self.tokens_per_second / self._first.tokens_per_second

    @property
    def requests_per_second(self) -> float:
        """Answers over the time of the whole run."""
        return len(self.good) / self.run.seconds if self.run.seconds else 0.0

    @property
    def goodput(self) -> float:
        """Answers per second that stay within all limits."""
        within = sum(self._is_within(answer) for answer in self.good)
        return within / self.run.seconds if self.run.seconds else 0.0

    @cached_property
    def times(self) -> dict[str, Spread]:
        """By name, how the times of the answers are spread; see `Answer`."""
        values: dict[str, list[float]] = {
            "ttft": [answer.ttft for answer in self.good],
            "tpot": [answer.tpot for answer in self.good if answer.tpot is not None],
            "itl": [gap for answer in self.good for gap in answer.itl],
            "e2e": [answer.e2e for answer in self.good],
        }
        return {name: Spread.of(values[name]) for name in TIMES}

    def as_row(self) -> Row:
        """What a table shows; see `_HEAD`."""
        spreads = [self.times[name] for name in TIMES]
        return (
            self.run.side,
            f"{len(self.good)}/{len(self.run.answers)}",
            f"{self.tokens_per_second:.1f}",
            f"{self.ratio:.2f}",
            f"{self.requests_per_second:.2f}",
            f"{self.goodput:.2f}" if self._limits else "",
            *(
                " ".join(_milliseconds(one) for one in (spread.mean, spread.median, spread.p99))
                for spread in spreads
            ),
        )

    def as_record(self) -> dict[str, Any]:
        """All figures; times in seconds."""
        return {
            "side": self.run.side,
            "concurrency": self.run.load.concurrency,
            "rate": self.run.load.rate,
            "requests": len(self.run.answers),
            "answered": len(self.good),
            "seconds": self.run.seconds,
            "tokens": sum(answer.tokens for answer in self.good),
            "tokens_per_second": self.tokens_per_second,
            "ratio": self.ratio,
            "requests_per_second": self.requests_per_second,
            "goodput": self.goodput if self._limits else None,
            **{name: asdict(spread) for name, spread in self.times.items()},
            "errors": sorted({answer.error for answer in self.run.answers if answer.error}),
        }

    def _is_within(self, answer: Answer) -> bool:
        times = {"ttft": answer.ttft, "tpot": answer.tpot or 0.0, "e2e": answer.e2e}
        return all(times[name] <= limit for name, limit in self._limits.items())


@dataclass(frozen=True)
class Report:
    """A finished benchmark.

    Attributes:
        model: the name of what was asked.
        url: of the server.
        peer: of the other server; None without one.
        settings: how it was asked.
        measured: what was found.
    """

    model: str
    url: str
    peer: str | None
    settings: Settings
    measured: Measurements

    @cached_property
    def summaries(self) -> dict[str, list[Summary]]:
        """By load: those of all sides, the one that others are compared with first."""
        found: dict[str, list[Summary]] = {}
        for run in self.measured.runs:
            of_load = found.setdefault(str(run.load), [])
            first = of_load[0] if of_load else None
            of_load.append(Summary(run, self.settings.limits, first))
        return found

    def as_text(self) -> str:
        """Tables for a terminal."""
        return "\n\n".join([self._describe(), aligned(self._rows(), left=(1,)), *self._errors()])

    def as_markdown(self) -> str:
        """Tables to be pasted into a page."""
        table = markdown(self._rows(), text_columns=(1,))
        return "\n\n".join([self._describe(), table, *self._errors()])

    def as_record(self) -> dict[str, Any]:
        """Everything, as one JSON object; times in seconds."""
        return {
            "model": self.model,
            "url": self.url,
            "peer": self.peer,
            "settings": asdict(self.settings),
            "compared_texts": self.measured.compared,
            "results": [one.as_record() for many in self.summaries.values() for one in many],
        }

    def _rows(self) -> list[Row]:
        """One row for each load and side, below the names of the columns."""
        rows: list[Row] = [("PER SECOND" if self.settings.rates else "AT A TIME", *_HEAD)]
        for load, summaries in self.summaries.items():
            rows += [(load.removesuffix("/s"), *one.as_row()) for one in summaries]
        hidden = () if self.settings.limits else (1 + _HEAD.index("GOOD/S"),)
        return [tuple(cell for n, cell in enumerate(row) if n not in hidden) for row in rows]

    def _errors(self) -> list[str]:
        return [
            f"{one.run.side}, load {load}: {error}"
            for load, many in self.summaries.items()
            for one in many
            for error in one.as_record()["errors"]
        ]

    def _describe(self) -> str:
        settings = self.settings
        choice = f"temperature {settings.temperature:g}" if settings.temperature else "greedy"
        line = (
            f"{self.model} at {self.url}: {settings.requests} or more requests of each load and "
            f"side, at most {settings.tokens} tokens, {choice}"
        )
        if self.measured.compared:
            line += f"; {self.measured.compared} texts compared, the same with all settings"
        if self.peer is not None:
            line += f"\npeer: {self.peer}"
        return f"{line}\ntimes are mean, median and 99th percentile in ms"


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{0 if seconds >= 0.1 else 1}f}"
