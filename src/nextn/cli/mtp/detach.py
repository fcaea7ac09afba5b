"""`nextn mtp detach`: takes the head out of a model."""

from __future__ import annotations

from pathlib import Path

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.mtp.options import json_option, output_option, quiet_option
from nextn.cli.options import offline_option


@click.command(
    cls=Verb,
    name="detach",
    examples=("nextn mtp detach model.gguf -o plain.gguf --head-output mtp.gguf",),
)
@click.argument("model")
@output_option(required=True)
@option(
    None,
    "--head-output",
    type=click.Path(path_type=Path),
    help="Write the head to this file, too.",
)
@offline_option
@json_option
@quiet_option
@debug_option
def command(
    model: str,
    output: Path,
    head_output: Path | None,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write MODEL without its prediction head, and print the paths of what was written.

    Only the head's tensors and what the metadata say about it are left out. With --head-output the
    head is kept in a file of its own, from which `nextn mtp attach` restores the model.
    """
    from nextn.cli.loading import find_model
    from nextn.cli.mtp.results import show_result
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.detach import detach_head

    source = find_model(model, offline=offline, quiet=quiet)
    with ProgressDisplay(quiet=quiet) as progress:
        result = detach_head(source.path, output, head_output=head_output, progress=progress)
    what = "left out, as asked" if head_output is None else "the head, in its own file"
    show_result(result, what, as_json=as_json, quiet=quiet)
