"""What the verbs that move heads say at the end."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nextn.cli.text import bytes_text, one_line

if TYPE_CHECKING:
    from nextn.tools.head_parts import HeadResult


def show_result(result: HeadResult, what: str, *, as_json: bool, quiet: bool) -> None:
    """Print the first file that was written on standard output, and the rest on standard error.

    Args:
        result: what was done.
        what: what was written, such as "model without its head".
        as_json: print one JSON object instead.
        quiet: print the path alone.
    """
    if as_json:
        record = asdict(result)
        record["paths"] = [str(path) for path in result.paths]
        record["head_path"] = None if result.head_path is None else str(result.head_path)
        click.echo(json.dumps(record, indent=2))
        return
    if not quiet:
        blocks = f"{result.blocks} block{'' if result.blocks == 1 else 's'}"
        click.echo(
            f"{what}: {blocks} (from blk.{result.first}), {result.tensors} tensors, "
            f"{bytes_text(result.bytes)}, {', '.join(result.formats)}",
            err=True,
        )
        for note in result.notes:
            click.echo(one_line(f"note: {note}"), err=True)
    for path in (*result.paths, *([result.head_path] if result.head_path else ())):
        click.echo(str(path))
