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
@option(None, "--json", "as_json", is_flag=True, help="Write one JSON array.")
@debug_option
def command(as_json: bool) -> None:
    """List the models that have a name, and those that were downloaded."""
    from nextn.files.sources import MODELS, list_local

    local = {model.name: model for model in list_local()}
    names = [*MODELS, *(name for name in local if name not in MODELS)]
    entries = [_entry(name, MODELS.get(name), local.get(name)) for name in names]
    if as_json:
        click.echo(json.dumps(entries, indent=2))
        return
    rows = [("NAME", "SIZE", "DOWNLOADED", "DESCRIPTION")]
    for entry in entries:
        downloaded = entry["modified"][:10] if entry["downloaded"] else "no"
        text = one_line(entry["description"] or entry["path"] or "")
        rows.append((one_line(entry["name"]), bytes_text(entry["bytes"]), downloaded, text))
    click.echo(table(rows))


def _entry(name: str, known: RegistryModel | None, local: LocalModel | None) -> dict[str, Any]:
    """A model as JSON; `known` or `local` may be missing, but not both."""
    size = local.bytes if local else known.bytes if known else 0
    return {
        "name": name,
        "bytes": size,
        "downloaded": local is not None,
        "modified": local.modified.isoformat() if local else None,
        "path": str(local.path) if local else None,
        "description": known.description if known else None,
        "licence": known.licence if known else None,
    }
