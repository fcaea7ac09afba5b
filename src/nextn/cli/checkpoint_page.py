"""The page of `nextn show` for a safetensors checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nextn.cli.text import bytes_text, count_text, one_line, table

if TYPE_CHECKING:
    from nextn.tools.checkpoint_facts import CheckpointFacts, CheckpointHead, WeightGroup

_SHOWN = 3


def checkpoint_record(facts: CheckpointFacts) -> dict[str, Any]:
    """The facts for JSON."""
    from dataclasses import asdict

    record = asdict(facts)
    record["head"]["status"] = facts.head.status
    return record


def checkpoint_page(name: str, facts: CheckpointFacts) -> str:
    """The facts for people."""
    files = f"{facts.files} safetensors file{'' if facts.files == 1 else 's'}"
    rows = [
        ("model", name),
        ("file", f"{facts.path}, {files}, {bytes_text(facts.file_bytes)}"),
        ("architecture", facts.model_type or "not stated"),
        ("converts", "yes" if facts.unsupported is None else f"no: {facts.unsupported}"),
        ("parameters", count_text(facts.parameters)),
        ("quantisation", _quantisation(facts)),
        *_dimensions(facts),
        ("context", f"{facts.context:,} tokens" if facts.context else "not stated"),
        ("vocabulary", _vocabulary(facts)),
        ("chat template", "yes" if facts.chat_template else "no: it continues text"),
        ("head", _head(facts.head)),
        *_notes(facts),
    ]
    lines = [tuple(map(one_line, row)) for row in rows]
    return f"{table(lines)}\n\n{table(_group_rows(facts.groups))}"


def _quantisation(facts: CheckpointFacts) -> str:
    found = f"{', '.join(facts.layouts)}, {facts.bits_per_weight:.2f} bits per weight"
    method = facts.declared_method
    return found if method is None else f"{found}; declared: {method}"


def _dimensions(facts: CheckpointFacts) -> Iterator[tuple[str, str]]:
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


def _vocabulary(facts: CheckpointFacts) -> str:
    if facts.vocabulary is None:
        return "none in the file"
    kind = facts.tokenizer or "no tokenizer.json"
    return f"{facts.vocabulary:,} tokens ({kind})"


def _head(head: CheckpointHead) -> str:
    blocks = f"{head.declared} block{'' if head.declared == 1 else 's'}"
    stored = (
        f"{len(head.weights)} weights ({bytes_text(head.bytes)}, {', '.join(head.layouts)}: "
        f"{', '.join(head.weights[:_SHOWN])}{' ...' if len(head.weights) > _SHOWN else ''})"
    )
    match head.status:
        case "no":
            return "no"
        case "missing":
            return (
                f"declared but missing: {head.key} says {blocks}, but no file holds a weight of "
                "it; it was made by a tool that dropped them"
            )
        case "undeclared":
            return f"undeclared: {stored}, but {head.key} is missing or 0"
    return f"{blocks}, {stored}"


def _notes(facts: CheckpointFacts) -> Iterator[tuple[str, str]]:
    if facts.activation_scales:
        yield "left aside", f"{facts.activation_scales} scales of activations"
    if facts.unlisted:
        yield "not in index", ", ".join(facts.unlisted[:_SHOWN])
    if facts.other_files:
        yield "other files", ", ".join(facts.other_files[:_SHOWN])


def _group_rows(groups: list[WeightGroup]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("WEIGHTS", "COUNT", "PARAMETERS", "SIZE", "BITS/WEIGHT", "LAYOUTS")
    ]
    for group in groups:
        layouts = (
            f"{name} {size / max(1, group.bytes):.0%}" if len(group.layouts) > 1 else name
            for name, size in sorted(group.layouts.items(), key=lambda item: -item[1])
        )
        rows.append(
            (
                group.name,
                str(group.weights),
                count_text(group.parameters),
                bytes_text(group.bytes),
                f"{group.bits_per_weight:.2f}",
                ", ".join(layouts),
            )
        )
    return rows
