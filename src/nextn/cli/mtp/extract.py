"""`nextn mtp extract`: the head of a model as a file of its own."""

from __future__ import annotations

from pathlib import Path

import click

from nextn.cli.command import Verb, debug_option
from nextn.cli.mtp.options import json_option, output_option, quiet_option
from nextn.cli.options import offline_option


@click.command(
    cls=Verb,
    name="extract",
    examples=("nextn mtp extract Qwen3.6-27B-Q8_0-00001-of-00002.gguf -o mtp.gguf",),
)
@click.argument("model")
@output_option(required=True)
@offline_option
@json_option
@quiet_option
@debug_option
def command(model: str, output: Path, offline: bool, as_json: bool, quiet: bool) -> None:
    """Write the prediction head of MODEL to a file of its own, and print its path.

    The file holds what the head needs and nothing else, byte for byte: its blocks, its own
    embedding, norm and output matrix if it has them, and what it was made for. Of a model in parts
    name the first. Also for families that nextn cannot run.
    """
    from nextn.cli.loading import find_model
    from nextn.cli.mtp.results import show_result
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.extract import extract_head

    source = find_model(model, offline=offline, quiet=quiet)
    with ProgressDisplay(quiet=quiet) as progress:
        result = extract_head(source.path, output, progress=progress)
    show_result(result, "the head alone", as_json=as_json, quiet=quiet)
