"""Writes the texts: every prompt with every setting in turn, so that noise hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nextn.bench.mtp.forced import forced_acceptance
from nextn.bench.mtp.settings import Settings
from nextn.bench.mtp.write import write_prompt
from nextn.engine import Statistics
from nextn.engine.request import DraftSetting
from nextn.prompts import Prompt
from nextn.speculate import SpeculationStatistics

if TYPE_CHECKING:
    from nextn.model import Model

Progress = Callable[[int, int], None]
"""Told how many texts are written, and how many there are."""

_WARM_TOKENS = 32
_FORCED_DEPTH = 4


class DifferentTextError(RuntimeError):
    """Two settings wrote different texts, which must never happen: a defect of nextn."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was written once.

    Attributes:
        category: of its prompt.
        prompt: which one of the category, from 0 on.
        draft: the setting that it was written with.
        statistics: counts and times.
    """

    category: str
    prompt: int
    draft: DraftSetting
    statistics: Statistics

    @property
    def key(self) -> tuple[str, int]:
        """Which prompt it continues."""
        return self.category, self.prompt

    @property
    def later_tokens(self) -> int:
        """Tokens after the first one, whose time is that of the prompt."""
        return max(self.statistics.tokens - 1, 0)


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that was measured.

    Attributes:
        texts: in the order in which they were written.
        forced: by category, how well the head follows the plain texts from each position on; see
            `forced_acceptance`. Empty without a head, and for sampled texts.
    """

    texts: list[Text] = field(default_factory=list)
    forced: dict[str, SpeculationStatistics] = field(default_factory=dict)


def measure(model: Model, settings: Settings, progress: Progress | None = None) -> Measurements:
    """Write every prompt's text with every setting.

    The settings of a prompt follow each other, in an order that is rotated from prompt to prompt.
    All start with an empty prefix cache, so that each of them pays for the prompt.

    Args:
        model: used by nobody else; its prefix cache is emptied.
        settings: what to write.
        progress: told about every text.

    Raises:
        RequestError: impossible settings, or a prompt that does not fit the model's context.
        DifferentTextError: the texts of a prompt are not all the same.
    """
    settings.check()
    categories = settings.load_prompts()
    drafts = settings.drafts
    for draft in drafts:
        _write(model, categories[0][0], draft, 0, min(settings.tokens, _WARM_TOKENS), settings)
    total = len(drafts) * sum(map(len, categories))
    measured = Measurements()
    texts = measured.texts
    turn = 0
    for prompts in categories:
        for number, prompt in enumerate(prompts):
            written: dict[DraftSetting, list[int]] = {}
            for draft in _rotated(drafts, turn):
                before, tokens, statistics = _write(
                    model, prompt, draft, turn, settings.tokens, settings
                )
                written[draft] = tokens
                texts.append(Text(prompt.category, number, draft, statistics))
                if progress is not None:
                    progress(len(texts), total)
            _check_equal(prompt.category, number, written)
            if model.executor.has_head and not settings.temperature:
                model.engine.cache.reset()
                measured.forced.setdefault(prompt.category, SpeculationStatistics()).add(
                    forced_acceptance(model.executor, before, written["off"], _FORCED_DEPTH)
                )
            turn += 1
    return measured


def _write(
    model: Model, prompt: Prompt, draft: DraftSetting, seed: int, tokens: int, settings: Settings
) -> tuple[list[int], list[int], Statistics]:
    """The tokens of the prompt and of the text, and its statistics."""
    return write_prompt(
        model,
        prompt,
        draft=draft,
        max_tokens=tokens,
        temperature=settings.temperature,
        seed=seed,
    )


def _rotated(drafts: Sequence[DraftSetting], turn: int) -> list[DraftSetting]:
    first = turn % len(drafts)
    return [*drafts[first:], *drafts[:first]]


def _check_equal(category: str, number: int, written: dict[DraftSetting, list[int]]) -> None:
    plain = written["off"]
    for draft, tokens in written.items():
        if tokens == plain:
            continue
        same = [a == b for a, b in zip(plain, tokens, strict=False)]
        first = same.index(False) if False in same else len(same)
        raise DifferentTextError(
            f"[bench] the text of prompt {number} of {category!r} with draft={draft!r} is not that "
            f"of plain decoding: the first other token is number {first}"
        )
