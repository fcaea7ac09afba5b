"""What a head does on texts that the model itself writes: acceptance, speed, and sameness.

Every text is written without drafts, with automatic drafts, and with as many drafts per step as
are measured; all must be the same. Then the head is asked after every token of it, whatever the
engine would have asked (`nextn.bench.mtp.forced`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS
from nextn.bench.mtp.forced import forced_acceptance
from nextn.engine import Statistics
from nextn.engine.request import DraftSetting
from nextn.errors import RequestError
from nextn.prompts import CATEGORIES, Prompt, load
from nextn.speculate import SpeculationStatistics

if TYPE_CHECKING:
    from nextn.model import Model

Progress = Callable[[int, int], None]
"""Told how many texts are done, and how many there are."""

DEPTH = 4
"""Drafted tokens per chain of which acceptance is measured."""

_SETTINGS: tuple[DraftSetting, ...] = ("off", "auto", DEPTH)


@dataclass(frozen=True, slots=True)
class TextSettings:
    """Which texts are written.

    Attributes:
        categories: of the prompts; see `nextn.prompts`.
        prompts: how many of each category.
        tokens: most tokens of a text.
    """

    categories: tuple[str, ...] = CATEGORIES
    prompts: int = 1
    tokens: int = 48

    def load(self) -> list[Prompt]:
        """The prompts.

        Raises:
            RequestError: a category that does not exist, more prompts than there are, or an
                impossible number.
        """
        if self.prompts < 1 or self.tokens < DEPTH:
            raise RequestError(
                f"{self.prompts} prompts of each category, and {self.tokens} tokens of each text, "
                f"are not possible; at least 1 and {DEPTH}"
            )
        found: list[Prompt] = []
        for category in dict.fromkeys(self.categories):
            prompts = load("evaluation", [category])
            if len(prompts) < self.prompts:
                raise RequestError(
                    f"{self.prompts} prompts are not possible; there are {len(prompts)} for "
                    f"{category!r}"
                )
            found += prompts[: self.prompts]
        if not found:
            raise RequestError(f"no category is given; there are {', '.join(CATEGORIES)}")
        return found


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A text of the trunk, and its hidden states.

    Attributes:
        category: of its prompt.
        prompt: token ids.
        tokens: what the trunk writes after it, greedily.
        hidden: float32 [positions rounded up to blocks, width]: what the trunk gives to the head.
    """

    category: str
    prompt: list[int]
    tokens: list[int]
    hidden: NDArray[np.float32]


@dataclass(slots=True)
class TextResults:
    """What was measured on all texts.

    Attributes:
        texts: all of them.
        forced: acceptance at every position, by category.
        statistics: of writing, by the setting of drafts.
        different: category of the first text that was another one with drafts; None if there was
            none, as it should be.
    """

    texts: list[WrittenText] = field(default_factory=list)
    forced: dict[str, SpeculationStatistics] = field(default_factory=dict)
    statistics: dict[DraftSetting, Statistics] = field(default_factory=dict)
    different: str | None = None

    @property
    def total(self) -> SpeculationStatistics:
        """Acceptance over all categories."""
        total = SpeculationStatistics()
        for one in self.forced.values():
            total.add(one)
        return total

    @property
    def speed_up(self) -> float | None:
        """Speed with automatic drafts over that without; None if nothing was timed."""
        plain, automatic = self.statistics["off"], self.statistics["auto"]
        rates = [
            one.tokens / one.writing_seconds if one.writing_seconds > 0 else 0.0
            for one in (plain, automatic)
        ]
        return rates[1] / rates[0] if all(rates) else None


def write_texts(
    model: Model, settings: TextSettings, progress: Progress | None = None
) -> TextResults:
    """Write the texts, and ask the head after every token.

    Args:
        model: with a head; used by nobody else.
        settings: which texts.
        progress: told about every text.

    Raises:
        RequestError: impossible settings, or a prompt that does not fit the model's context.
    """
    prompts = settings.load()
    results = TextResults(statistics={draft: Statistics() for draft in _SETTINGS})
    for done, prompt in enumerate(prompts):
        written: dict[DraftSetting, list[int]] = {}
        before: list[int] = []
        for draft in _SETTINGS:
            before, written[draft], statistics = _write(model, prompt, draft, settings.tokens)
            results.statistics[draft].add(statistics)
        if any(tokens != written["off"] for tokens in written.values()):
            results.different = results.different or prompt.category
        _ask_everywhere(model, prompt.category, before, written["off"], results)
        if progress is not None:
            progress(done + 1, len(prompts))
    return results


def _write(
    model: Model, prompt: Prompt, draft: DraftSetting, tokens: int
) -> tuple[list[int], list[int], Statistics]:
    """Token ids of the prompt and of the text, and its statistics."""
    model.engine.cache.reset()
    options: Mapping[str, Any] = {"draft": draft, "max_tokens": tokens, "temperature": 0.0}
    if model.checkpoint.chat_template is None:
        text = "\n\n".join(message["content"] for message in prompt.messages)
        stream = model.stream(text, **options)
    else:
        stream = model.stream_chat(prompt.messages, **options)
    with stream:
        done = stream.collect()
    return stream.prompt, done.tokens, done.statistics


def _ask_everywhere(
    model: Model, category: str, prompt: list[int], tokens: list[int], results: TextResults
) -> None:
    model.engine.cache.reset()
    counts = forced_acceptance(model.executor, prompt, tokens, DEPTH)
    results.forced.setdefault(category, SpeculationStatistics()).add(counts)
    positions = len(prompt) + len(tokens)
    blocks = np.arange(-(-positions // BLOCK_TOKENS), dtype=np.int32)
    bits = model.executor.read_hidden(0, blocks).astype(np.uint32) << 16
    hidden = bits.view(np.float32)
    results.texts.append(
        WrittenText(category, prompt, tokens, hidden.reshape(-1, hidden.shape[-1]))
    )
