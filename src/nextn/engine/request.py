"""What a generation is asked to do, and the checks that it is possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from nextn.errors import RequestError
from nextn.grammar import GRAMMAR_SETTINGS
from nextn.sampling import ConstraintSource, SamplingParams

MAX_PRIORITY = 1_000_000
"""Largest and, negated, smallest priority."""

MAX_DRAFT = 16
"""Most drafted tokens per step that a request may ask for."""

DraftSetting: TypeAlias = Literal["auto", "off"] | int

_SAMPLING = tuple(item.name for item in fields(SamplingParams))
_KNOWN = ("max_tokens", "stop", "draft", "ignore_end", "priority", "cache_prompt", *_SAMPLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """One text to write.

    Attributes:
        prompt: token ids.
        sampling: how tokens are chosen.
        max_tokens: most tokens to write; None is as many as the context has room for.
        stop: the text ends before the first of these strings.
        end_tokens: the text ends with the first of these tokens, which has no text itself.
        draft: "auto" chooses by measurement how many drafted tokens to verify per step, "off" is
            one token per step, a number from 1 to `MAX_DRAFT` verifies as many as that whenever a
            drafter has them. It changes the speed, never the text.
        shown_control: control tokens that have text; others have none, and end tokens never have.
        cache_prompt: whether the beginning of the prompt may be taken from other texts, where it is
            the same, and they may take theirs from this one. It changes the speed, never the text.
        priority: those with lower numbers run first, and instead of others if need be.
        client: who asks; clients get their turns one after the other.
        constraint: a form, such as a JSON schema, that the text must have; see `nextn.grammar`.
    """

    prompt: list[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    end_tokens: frozenset[int] = frozenset()
    draft: DraftSetting = "auto"
    shown_control: frozenset[int] = frozenset()
    constraint: ConstraintSource | None = None
    cache_prompt: bool = True
    priority: int = 0
    client: str = ""

    def check(self, vocab_size: int, context_length: int) -> None:
        """Check that the request is possible.

        Args:
            vocab_size: number of token ids of the model.
            context_length: most tokens of a sequence, prompt included.

        Raises:
            RequestError: names the setting, its value and what is allowed.
        """
        if not self.prompt:
            raise RequestError("the prompt is empty; give at least one token", field="prompt")
        if len(self.prompt) >= context_length:
            raise RequestError(
                f"the prompt has {len(self.prompt)} tokens, but the context holds {context_length} "
                "with the answer; shorten the prompt or load the model with a larger context",
                field="prompt",
            )
        for token in (min(self.prompt), max(self.prompt)):
            if not 0 <= token < vocab_size:
                raise RequestError(
                    f"prompt: token id {token} is outside the vocabulary; use 0 to "
                    f"{vocab_size - 1}",
                    field="prompt",
                )
        if self.max_tokens is not None and not _is_integer(self.max_tokens, 1):
            raise RequestError(
                f"max_tokens is {self.max_tokens!r}; allowed: an integer from 1, or None",
                field="max_tokens",
            )
        for stop in self.stop:
            if not isinstance(stop, str) or not stop:
                raise RequestError(
                    f"stop: {stop!r} is no stop string; give text of any length", field="stop"
                )
        if self.draft not in ("auto", "off") and not _is_integer(self.draft, 1, MAX_DRAFT):
            raise RequestError(
                f"draft is {self.draft!r}; allowed: 'auto', 'off', or an integer from 1 to "
                f"{MAX_DRAFT}",
                field="draft",
            )
        if not isinstance(self.cache_prompt, bool):
            raise RequestError(
                f"cache_prompt is {self.cache_prompt!r}; allowed: True or False",
                field="cache_prompt",
            )
        if not _is_integer(self.priority, -MAX_PRIORITY, MAX_PRIORITY):
            raise RequestError(
                f"priority is {self.priority!r}; allowed: an integer from {-MAX_PRIORITY} to "
                f"{MAX_PRIORITY}",
                field="priority",
            )
        if self.constraint is not None and self.constraint.vocab_size != vocab_size:
            raise RequestError(
                f"constraint: made for a model of {self.constraint.vocab_size} tokens, but this "
                f"one has {vocab_size}; make it with the model that writes"
            )
        self.sampling.check(vocab_size)


def request_from_settings(
    prompt: list[int],
    end_tokens: frozenset[int],
    settings: Mapping[str, Any],
    constraint: ConstraintSource | None = None,
) -> GenerationRequest:
    """Build a request from keyword settings, as the Python API takes them; see `check` for values.

    Args:
        prompt: token ids.
        end_tokens: the model's end tokens.
        settings: `max_tokens`, `stop` (one string or several), `draft`, `ignore_end` (write on past
            end tokens), `priority`, `cache_prompt` and every field of `SamplingParams`.
        constraint: what `nextn.grammar` made of further settings, which are not among these.

    Raises:
        RequestError: a setting that does not exist, or stop strings that are none.
    """
    unknown = [name for name in settings if name not in _KNOWN]
    if unknown:
        known = ", ".join((*_KNOWN, *GRAMMAR_SETTINGS))
        raise RequestError(f"unknown setting {', '.join(unknown)}; known are {known}")
    stop = settings.get("stop", ())
    if not isinstance(stop, Iterable):
        raise RequestError(f"stop is {stop!r}; allowed: a string or a list of strings")
    return GenerationRequest(
        prompt=prompt,
        sampling=SamplingParams(**{k: settings[k] for k in _SAMPLING if k in settings}),
        max_tokens=settings.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        end_tokens=frozenset() if settings.get("ignore_end", False) else end_tokens,
        draft=settings.get("draft", "auto"),
        priority=settings.get("priority", 0),
        cache_prompt=settings.get("cache_prompt", True),
        constraint=constraint,
    )


def _is_integer(value: object, low: int, high: int | None = None) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return value >= low and (high is None or value <= high)
