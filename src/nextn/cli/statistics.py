"""The line that ends a text: how much was written, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from nextn.cli.text import seconds_text

if TYPE_CHECKING:
    from nextn.engine import Statistics

INTERRUPTED = "interrupted"
"""The finish reason of a text that Ctrl-C ended."""

_ENDINGS = {
    "length": "ended at the limit (-n)",
    "context": "ended because the context is full (-c)",
    INTERRUPTED: "interrupted",
}


def statistics_line(statistics: Statistics, finish_reason: str) -> str:
    """The line after a text; what is not known yet, in a text of one token or none, is left out."""
    parts = [f"{statistics.tokens} token{'' if statistics.tokens == 1 else 's'}"]
    if statistics.tokens_per_second:
        parts.append(f"{statistics.tokens_per_second:.1f} tokens/s")
    if statistics.steps:
        parts.append(f"first token after {seconds_text(statistics.time_to_first_token)}")
        parts.append(f"{statistics.tokens_per_step:.2f} tokens per step")
        parts.append(draft_text(statistics.drafted, statistics.accepted))
    if finish_reason in _ENDINGS:
        parts.append(_ENDINGS[finish_reason])
    return ", ".join(parts)


def draft_text(drafted: int, accepted: int) -> str:
    """What became of the drafts."""
    if not drafted:
        return "no drafts"
    return f"{accepted / drafted:.0%} of {drafted} drafted tokens accepted"


def statistics_record(statistics: Statistics) -> dict[str, Any]:
    """All counts, times in seconds and rates, for JSON."""
    return asdict(statistics) | {
        "tokens_per_second": statistics.tokens_per_second,
        "prompt_tokens_per_second": statistics.prompt_tokens_per_second,
        "tokens_per_step": statistics.tokens_per_step,
        "acceptance": statistics.acceptance,
        "rest_seconds": statistics.rest_seconds,
    }


def total(many: Iterable[Statistics]) -> Statistics:
    """Counts and times of several texts together, written one after the other.

    The times of their first tokens are added too, so that `tokens_per_second` stays the speed of
    writing.
    """
    from nextn.engine import Statistics

    result = Statistics()
    for one in many:
        result.add(one)
    return result
