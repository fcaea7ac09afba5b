"""`nextn mtp attach`: puts a head into a model, or beside it."""

from __future__ import annotations

from pathlib import Path

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.mtp.options import json_option, output_option, quiet_option
from nextn.cli.options import offline_option


@click.command(
    cls=Verb,
    name="attach",
    examples=(
        "nextn mtp attach Qwen3.6-27B-Q4_K_M.gguf mtp.gguf -o Qwen3.6-27B-Q4_K_M-mtp.gguf",
        "nextn mtp attach my-finetune.gguf mtp.gguf --in-sidecar",
    ),
)
@click.argument("trunk")
@click.argument("head")
@output_option(required=False)
@option(
    None,
    "--in-sidecar",
    is_flag=True,
    help="Leave TRUNK as it is, and put the head beside it as mtp-TRUNK.",
)
@option(
    None,
    "--force",
    is_flag=True,
    help="Attach a head that seems to be made for another model; replace a file beside TRUNK.",
)
@offline_option
@json_option
@quiet_option
@debug_option
def command(
    trunk: str,
    head: str,
    output: Path | None,
    in_sidecar: bool,
    force: bool,
    offline: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write TRUNK with the prediction head of HEAD in it, and print the path of the file.

    TRUNK may be any quantisation of the model that the head was made for, or a fine-tuned one. HEAD
    is a file with a head alone, or a model with one. Whether they belong together is checked first:
    architecture, sizes, vocabulary, tokenizer. The bytes of all tensors stay as they are; a model
    in parts becomes one in parts.
    """
    from nextn.cli.loading import find_model
    from nextn.cli.mtp.results import show_result
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.attach import attach_beside, attach_head

    if in_sidecar == (output is not None):
        raise click.UsageError("give either -o FILE or --in-sidecar")
    model = find_model(trunk, offline=offline, quiet=quiet)
    donor = find_model(head, offline=offline, quiet=quiet)
    with ProgressDisplay(quiet=quiet) as progress:
        if output is None:
            result = attach_beside(
                model.path, donor.path, force=force, replace=force, progress=progress
            )
        else:
            result = attach_head(model.path, donor.path, output, force=force, progress=progress)
    what = "the head beside the model" if output is None else "the model with its head"
    show_result(result, what, as_json=as_json, quiet=quiet)
