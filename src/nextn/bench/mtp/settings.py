"""What is to be measured: tasks, and numbers of drafted tokens."""

from __future__ import annotations

from dataclasses import dataclass

from nextn.engine import MAX_DRAFT
from nextn.engine.request import DraftSetting
from nextn.errors import RequestError
from nextn.prompts import CATEGORIES, Prompt, load
from nextn.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asked for.

    Attributes:
        categories: of the prompts; see `nextn.prompts`.
        prompts: how many of each category.
        tokens: most tokens to write after each; a text ends earlier at an end token.
        depths: numbers of drafted tokens per step to try besides none and "auto".
        temperature: 0 always takes the most probable token; else each prompt has a seed.
    """

    categories: tuple[str, ...] = CATEGORIES
    prompts: int = 4
    tokens: int = 128
    depths: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    temperature: float = 0.0

    @property
    def drafts(self) -> tuple[DraftSetting, ...]:
        """The values of `draft` that are compared; plain decoding first."""
        return ("off", *sorted(set(self.depths)), "auto")

    def check(self) -> None:
        """Refuse what is not possible.

        Raises:
            RequestError: names the setting, its value and what is allowed.
        """
        for option, value, least, most in (
            ("-n", self.tokens, 2, None),
            ("--prompts", self.prompts, 1, None),
            *(("--draft-depths", depth, 1, MAX_DRAFT) for depth in self.depths),
        ):
            if value < least or (most is not None and value > most):
                allowed = f"{least} or more" if most is None else f"{least} to {most}"
                raise RequestError(f"{option}: {value} is not possible; allowed: {allowed}")
        if not self.categories:
            raise RequestError(f"--categories: none given; use {', '.join(CATEGORIES)}")
        SamplingParams(temperature=self.temperature).check(1)
        self.load_prompts()

    def load_prompts(self) -> list[list[Prompt]]:
        """The prompts of each category.

        Raises:
            RequestError: a category that does not exist, or more prompts than there are.
        """
        found = []
        for category in dict.fromkeys(self.categories):
            prompts = load("evaluation", [category])
            if len(prompts) < self.prompts:
                raise RequestError(
                    f"--prompts: {self.prompts} is not possible; there are {len(prompts)} for "
                    f"{category!r}"
                )
            found.append(prompts[: self.prompts])
        return found
