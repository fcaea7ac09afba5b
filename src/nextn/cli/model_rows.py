"""Rows of the pages of `nextn show` that all kinds of checkpoints have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nextn.cli.text import bytes_text, count_text

if TYPE_CHECKING:
    from nextn.cli.model_facts import ModelFacts
    from nextn.tools.checkpoint_facts import CheckpointFacts


def dimension_rows(facts: ModelFacts | CheckpointFacts) -> Iterator[tuple[str, str]]:
    """One row with all sizes that are known; none if nothing is."""
    parts = {
        "blocks": facts.blocks,
        "hidden": facts.hidden,
        "feed-forward": facts.feed_forward,
        "heads": facts.heads,
        "key/value heads": facts.kv_heads,
    }
    known = [f"{value} {title}" for title, value in parts.items() if value is not None]
    if known:
        yield "dimensions", ", ".join(known)


def group_row(
    name: str,
    count: int,
    parameters: int,
    size: int,
    bits_per_weight: float,
    formats: Mapping[str, int],
) -> tuple[str, ...]:
    """What a group of tensors takes.

    Args:
        name: of the group.
        count: its tensors.
        parameters: their elements.
        size: their bytes.
        bits_per_weight: bits in the file per element.
        formats: how they are stored -> bytes.
    """
    shares = (
        f"{kind} {part / max(1, size):.0%}" if len(formats) > 1 else kind
        for kind, part in sorted(formats.items(), key=lambda item: -item[1])
    )
    return (
        name,
        str(count),
        count_text(parameters),
        bytes_text(size),
        f"{bits_per_weight:.2f}",
        ", ".join(shares),
    )
