"""What was measured, by category and over all, as tables for people and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nextn.bench.mtp.measure import Measurements, Text
from nextn.bench.mtp.settings import Settings
from nextn.bench.report import ModelLine
from nextn.bench.tables import Row, aligned, markdown
from nextn.engine import Statistics
from nextn.engine.request import DraftSetting
from nextn.speculate import SpeculationStatistics

ALL = "all"
"""The name of all categories together."""

_HEAD = (
    "TOKENS/S",
    "MEDIAN",
    "SPEED-UP",
    "MEDIAN",
    "TOKENS/STEP",
    "DRAFT",
    "VERIFY",
    "REST",
    "ACCEPTED %",
)
_FORCED = ("head at every position", "positions", "accepted %")
_MOST_POSITIONS = 8  # in a table


class Summary:
    """The texts of one category, or of all, that were written with one setting.

    Args:
        category: its name.
        draft: the setting.
        texts: what was written; at least one.
        plain: the summary of the same prompts without drafts; None if this is it.

    Attributes:
        total: counts and times of all texts together.
    """

    def __init__(
        self, category: str, draft: DraftSetting, texts: Sequence[Text], plain: Summary | None
    ) -> None:
        self.category = category
        self.draft = draft
        self.texts = texts
        self._plain = plain
        self.total = Statistics()
        for text in texts:
            self.total.add(text.statistics)

    @property
    def later_tokens(self) -> int:
        """Tokens after the first one of each text, whose time is that of the prompt."""
        return sum(text.later_tokens for text in self.texts)

    @property
    def later_steps(self) -> int:
        """Steps that wrote them."""
        return self.total.steps - sum(text.statistics.steps > 0 for text in self.texts)

    @property
    def rate(self) -> float:
        """Tokens per second of all texts together, first tokens left out."""
        later = self.later_tokens
        return later / self.total.writing_seconds if later else 0.0

    @property
    def median_rate(self) -> float:
        """Median of the tokens per second of the texts that have more than one token."""
        rates = [text.statistics.tokens_per_second for text in self.texts if text.later_tokens]
        return statistics.median(rates) if rates else 0.0

    @property
    def speed_up(self) -> float:
        """Time of plain decoding as a multiple of this one's; 1 where nothing was timed."""
        if self._plain is None or not self.rate:
            return 1.0
        return self.rate / self._plain.rate

    @property
    def median_speed_up(self) -> float:
        """Median of the same over the texts, each against its own plain decoding."""
        if self._plain is None or not self.rate:
            return 1.0
        plain = {text.key: text.statistics.tokens_per_second for text in self._plain.texts}
        return statistics.median(
            text.statistics.tokens_per_second / plain[text.key]
            for text in self.texts
            if text.later_tokens
        )

    @property
    def tokens_per_step(self) -> float:
        """Tokens per step, first tokens left out; 1 where there are no others."""
        return self.later_tokens / self.later_steps if self.later_steps else 1.0

    @property
    def times(self) -> tuple[float, float, float]:
        """Seconds that the drafts took, the executor, and the rest; prompts left out."""
        total = self.total
        return total.draft_seconds, total.execute_seconds, total.rest_seconds

    def as_row(self) -> Row:
        """What a table shows; see `_HEAD`."""
        accepted = [f"{name} {_percents(shares)}" for name, shares in self._acceptance().items()]
        return (
            str(self.draft),
            f"{self.rate:.1f}",
            f"{self.median_rate:.1f}",
            f"{self.speed_up:.2f}",
            f"{self.median_speed_up:.2f}",
            f"{self.tokens_per_step:.2f}",
            *(f"{1e3 * seconds / max(self.later_steps, 1):.2f}" for seconds in self.times),
            ", ".join(accepted),
        )

    def as_record(self) -> dict[str, Any]:
        """All counts, times and rates."""
        return {
            "category": self.category,
            "draft": self.draft,
            "texts": len(self.texts),
            "tokens_per_second": self.rate,
            "median_tokens_per_second": self.median_rate,
            "speed_up": self.speed_up,
            "median_speed_up": self.median_speed_up,
            "tokens_per_step": self.tokens_per_step,
            "acceptance_at": self._acceptance(),
            **asdict(self.total),
            "rest_seconds": self.total.rest_seconds,
        }

    def _acceptance(self) -> dict[str, list[float]]:
        return {name: one.acceptance_at for name, one in sorted(self.total.by_drafter.items())}


@dataclass(frozen=True)
class Report:
    """A finished benchmark.

    Attributes:
        model: what was measured.
        settings: how.
        measured: what was found.
    """

    model: ModelLine
    settings: Settings
    measured: Measurements

    @cached_property
    def summaries(self) -> dict[str, list[Summary]]:
        """By category, `ALL` last if there are several: by setting, plain decoding first."""
        categories = list(dict.fromkeys(text.category for text in self.measured.texts))
        found = {}
        for category in (*categories, ALL) if len(categories) > 1 else categories:
            texts = [text for text in self.measured.texts if category in (text.category, ALL)]
            plain: Summary | None = None
            summaries = []
            for draft in self.settings.drafts:
                ours = [text for text in texts if text.draft == draft]
                summaries.append(Summary(category, draft, ours, plain))
                plain = plain or summaries[0]
            found[category] = summaries
        return found

    @property
    def pooled(self) -> list[Summary]:
        """Those of all texts together."""
        return list(self.summaries.values())[-1]

    @property
    def forced(self) -> dict[str, SpeculationStatistics]:
        """What the head would have drafted at every position, by category; as `summaries`."""
        found = dict(self.measured.forced)
        if len(found) > 1:
            found[ALL] = SpeculationStatistics()
            for one in self.measured.forced.values():
                found[ALL].add(one)
        return found

    def as_text(self) -> str:
        """Tables for a terminal."""
        parts = [self._describe()]
        for category, summaries in self.summaries.items():
            rows = [(category.upper(), *_HEAD), *(one.as_row() for one in summaries)]
            parts.append(aligned(rows, left=(0, len(_HEAD))))
        if forced := self._forced_rows():
            parts.append(aligned([tuple(map(str.upper, _FORCED)), *forced], left=(0, 2)))
        return "\n\n".join(parts)

    def as_markdown(self) -> str:
        """Tables to be pasted into a page."""
        parts = [self._describe()]
        for category, summaries in self.summaries.items():
            rows = [(category, *map(str.lower, _HEAD)), *(one.as_row() for one in summaries)]
            parts.append(markdown(rows, text_columns=(0, len(_HEAD))))
        if forced := self._forced_rows():
            parts.append(markdown([_FORCED, *forced], text_columns=(0, 2)))
        return "\n\n".join(parts)

    def as_record(self) -> dict[str, Any]:
        """Everything, as one JSON object; times in seconds."""
        return {
            "model": asdict(self.model),
            "settings": asdict(self.settings),
            "results": [one.as_record() for many in self.summaries.values() for one in many],
            "forced": {
                category: {**asdict(one), "acceptance_at": one.acceptance_at}
                for category, one in self.forced.items()
            },
            "texts": list(self._text_records()),
        }

    def _text_records(self) -> Iterator[dict[str, Any]]:
        for text in self.measured.texts:
            yield {
                "category": text.category,
                "prompt": text.prompt,
                "draft": text.draft,
                **asdict(text.statistics),
            }

    def _forced_rows(self) -> list[Row]:
        return [
            (category, str(one.steps), _percents(one.acceptance_at))
            for category, one in self.forced.items()
        ]

    def _describe(self) -> str:
        model, settings = self.model, self.settings
        plain = self.pooled[0]
        choice = f"temperature {settings.temperature:g}" if settings.temperature else "greedy"
        return (
            f"{model.name}: {model.computing}, {model.threads} "
            f"thread{'' if model.threads == 1 else 's'}; {len(plain.texts)} prompts, "
            f"{plain.total.tokens:,} tokens, {choice}; the texts are the same with all settings\n"
            "medians are over the prompts; draft, verify and rest are milliseconds per step; "
            "accepted: by position,\nof the drafted tokens all before which were accepted"
        )


def _percents(shares: Sequence[float]) -> str:
    return " ".join(f"{100 * share:.0f}" for share in shares[:_MOST_POSITIONS])
