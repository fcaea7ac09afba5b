"""`nextn imatrix`: measures which columns of a model's matrices matter."""

from __future__ import annotations

from pathlib import Path

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import backend_option, offline_option, threads_option
from nextn.cli.text import one_line


@click.command(
    cls=Verb,
    name="imatrix",
    examples=(
        "nextn imatrix model-f16.gguf --text calibration.txt -o model.imatrix.gguf",
        "nextn quantize model-f16.gguf out.gguf Q4_K_M --imatrix model.imatrix.gguf",
    ),
)
@click.argument("model")
@option(
    "Text",
    "-f",
    "--text",
    "--file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A text in UTF-8, like what the model will read and write.",
)
@option(
    "Text",
    "-c",
    "--ctx-size",
    "--context",
    "chunk_size",
    type=int,
    default=512,
    show_default=True,
    metavar="N",
    help="Tokens of a chunk; each begins without what was before.",
)
@option("Text", "--chunks", type=int, metavar="N", help="Most chunks to read.  [default: all]")
@option(
    "Text",
    "--parse-special",
    is_flag=True,
    help="Read the texts of control tokens as these tokens, for texts that hold chats.",
)
@option(
    "Output",
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to write.",
)
@option("Output", "-q", "--quiet", is_flag=True, help="Show no progress and no notes.")
@option(
    "Model",
    "--head",
    metavar="[auto|none|FILE]",
    default="auto",
    show_default=True,
    help="A file with a prediction head to run with the model. By default the one in the model's "
    "file is run.",
)
@threads_option
@backend_option
@offline_option
@debug_option
def command(
    model: str,
    text: Path,
    chunk_size: int,
    chunks: int | None,
    parse_special: bool,
    output: Path,
    quiet: bool,
    head: str,
    threads: int | None,
    backend: str,
    offline: bool,
) -> None:
    """Run MODEL over a text, and write its importance matrix.

    It holds how large the inputs of each matrix are, column by column, those of a prediction head
    in the model's file included. `nextn quantize --imatrix` and llama.cpp read it.
    """
    from nextn.cli.loading import find_model
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.imatrix import ImatrixSettings, make_imatrix

    source = find_model(model, offline=offline, quiet=quiet)
    settings = ImatrixSettings(chunk_size, chunks, parse_special, None if head == "none" else head)
    with ProgressDisplay(quiet=quiet, counted="tokens", speed=True) as progress:
        result = make_imatrix(
            source.path,
            text,
            output,
            settings,
            backend=backend,
            threads=threads,
            progress=progress,
        )
    if not quiet:
        for note in result.notes:
            click.echo(one_line(f"note: {note}"), err=True)
        run = "without a prediction head" if result.head is None else "with its prediction head"
        click.echo(
            f"{len(result.matrix.entries)} matrices over {result.tokens:,} tokens, {run}", err=True
        )
    click.echo(str(output))
