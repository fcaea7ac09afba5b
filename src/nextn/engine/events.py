"""What the engine reports: tokens as they become text, and failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from nextn.engine.sequence import Sequence
    from nextn.errors import NextnError

FinishReason: TypeAlias = Literal["stop", "length", "context"]
"""Why a text ended: an end token or stop string, `max_tokens`, or the end of the context."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a generated text.

    Attributes:
        text: what became certain with this token; the texts of all tokens joined are the text of
            the generation. Often more or less than the token's own: a part of a character waits
            for the rest of it, and what may become a stop string waits until it cannot. End tokens
            and stop strings have no text.
        id: the token.
        position: its index in the sequence, prompt included.
        logprob: its natural-log probability, if `logprobs` was asked for.
        top_logprobs: the most probable (id, logprob) pairs, best first, if asked for.
        drafter: which drafter foresaw the token, so that it cost no step of its own; None for the
            token that a step yields anyway.
        finish_reason: None, or why this is the last token.
    """

    text: str
    id: int
    position: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    drafter: str | None = None
    finish_reason: FinishReason | None = None


class Event(NamedTuple):
    """What happened to a sequence in a step.

    Attributes:
        sequence: which one.
        token: the token that it wrote; None if it failed.
        error: why it failed and was ended; None otherwise.
    """

    sequence: Sequence
    token: Token | None
    error: NextnError | None = None
