"""`nextn list`: the models that have a name, and those that were downloaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.text import bytes_text, one_line, table

if TYPE_CHECKING:
    from nextn.files.sources import LocalModel, RegistryModel


@click.command(cls=Verb, name="list")
@option(
    None,
    "--all",
    "everything",
    is_flag=True,
    help="Also models in the caches of the Hugging Face hub, llama.cpp, Ollama and LM Studio.",
)
@option(None, "--json", "as_json", is_flag=True, help="Write one JSON array.")
@debug_option
def command(everything: bool, as_json: bool) -> None:
    """List the models that have a name, and those that were downloaded.

    Each is shown under a name or path that `nextn run` accepts.
    """
    from nextn.files.sources import MODELS, list_local, list_other_caches

    local = {model.name: model for model in list_local()}
    names = [*MODELS, *(name for name in local if name not in MODELS)]
    entries = [_entry(name, MODELS.get(name), local.get(name)) for name in names]
    if everything:
        entries += [_entry(model.name, None, model) for model in list_other_caches()]
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    click.echo(table([_row(entry, everything) for entry in (None, *entries)]))


def _row(entry: dict[str, Any] | None, everything: bool) -> tuple[str, ...]:
    """A line of the table, or its heading; with `everything` it says which program has the file."""
    if entry is None:
        return ("NAME", "SIZE", "DOWNLOADED", *(["SOURCE"] if everything else []), "DESCRIPTION")
    # A path that is the name already is not repeated.
    path = "" if entry["path"] in (None, entry["name"]) else entry["path"]
    return (
        one_line(entry["name"]),
        bytes_text(entry["bytes"]),
        entry["modified"][:10] if entry["downloaded"] else "no",
        *([entry["source"] or ""] if everything else []),
        one_line(entry["description"] or path),
    )


def _entry(name: str, known: RegistryModel | None, local: LocalModel | None) -> dict[str, Any]:
    """A model as JSON; `known` or `local` may be missing, but not both."""
    size = local.bytes if local else known.bytes if known else 0
    return {
        "name": name,
        "bytes": size,
        "downloaded": local is not None,
        "modified": local.modified.isoformat() if local else None,
        "path": str(local.path) if local else None,
        "source": local.source if local else None,
        "description": known.description if known else None,
        "licence": known.licence if known else None,
    }
