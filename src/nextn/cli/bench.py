"""`nextn bench`: how fast a model runs here, and how near that is to what the machine allows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import (
    backend_option,
    cache_type_option,
    model_option,
    offline_option,
    threads_option,
)

_MEASURING = "Measuring"
_OUTPUT = "Output"


def _numbers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Numbers separated by commas."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0,4096")
    return tuple(map(int, parts))


@click.command(
    cls=Verb,
    name="bench",
    examples=(
        "nextn bench smollm2",
        "nextn bench model.gguf -p 512 -n 128 -d 0,4096 -t 4 --md",
        "nextn bench model.gguf -p 0 -n 0 -d 256 --plot steps.svg",
    ),
)
@click.argument("name", metavar="[MODEL]", required=False)
@model_option
@threads_option
@backend_option
@cache_type_option
@offline_option
@option(
    _MEASURING,
    "-p",
    "--n-prompt",
    "prompt",
    type=int,
    default=512,
    show_default=True,
    metavar="N",
    help="Tokens of a prompt; 0 measures none.",
)
@option(
    _MEASURING,
    "-n",
    "--n-gen",
    "generate",
    type=int,
    default=128,
    show_default=True,
    metavar="N",
    help="Tokens to decode one by one; 0 measures none.",
)
@option(
    _MEASURING,
    "-d",
    "--n-depth",
    "depths",
    callback=_numbers,
    metavar="N,...",
    help="Tokens that are in the cache before.  [default: 0,4096 as far as the model's context "
    "allows]",
)
@option(
    _MEASURING,
    "-b",
    "--batch",
    "batches",
    callback=_numbers,
    default="1,2,4,8",
    show_default=True,
    metavar="N,...",
    help="Sequences that are decoded at the same time, at the least depth.",
)
@option(
    _MEASURING,
    "--rows",
    type=int,
    default=16,
    show_default=True,
    metavar="N",
    help="Most rows of the verification curve: the time of one step by its number of rows; 0 "
    "measures none.",
)
@option(
    _MEASURING,
    "-r",
    "--repetitions",
    type=int,
    default=5,
    show_default=True,
    metavar="N",
    help="How often each test is measured.",
)
@option(_OUTPUT, "--json", "as_json", is_flag=True, help="Write one JSON object with every time.")
@option(_OUTPUT, "--md", "as_markdown", is_flag=True, help="Write Markdown tables.")
@option(
    _OUTPUT,
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Draw the verification curve into an SVG or PNG file; needs matplotlib.",
)
@option(_OUTPUT, "-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def command(name: str | None, model: str | None, **options: Any) -> None:
    """Measure how fast a model runs, test by test as llama-bench names them.

    MODEL is a name, a GGUF file or pypi:PACKAGE==VERSION. pp512 reads a prompt of 512 tokens, tg128
    writes 128 tokens one by one, "b4" means four sequences at the same time, and "@ d4096" that so
    many tokens are in the cache before. The verification curve is the time of one step of 1 to 16
    rows: checking k drafted tokens is a step of k + 1 rows, and RATIO says how many plain steps it
    costs.

    Shown are medians, and half the distance between the quartiles. OF LIMIT is the least time that
    the machine needs to read the weights and the cache, or to multiply, as a share of the measured
    time; both are measured first, with the same threads.
    """
    if (name is None) == (model is None):
        raise click.UsageError("give one model")
    if options["as_json"] and options["as_markdown"]:
        raise click.UsageError("--json and --md exclude each other")
    from nextn.bench.settings import Settings

    settings = Settings(
        prompt=options["prompt"],
        generate=options["generate"],
        depths=options["depths"],
        batches=options["batches"],
        rows=options["rows"],
        repetitions=options["repetitions"],
    )
    settings.check()
    plot: Path | None = options["plot"]
    if plot is not None:
        from nextn.bench.plot import check_plot, plot_curves

        if not settings.rows:
            raise click.UsageError("--plot draws the verification curve, which --rows 0 leaves out")
        check_plot(plot)

    from nextn.bench import run_benchmark
    from nextn.cli.loading import find_model
    from nextn.cli.progress import ProgressDisplay
    from nextn.files import open_checkpoint

    source = find_model(name or model or "", offline=options["offline"], quiet=options["quiet"])
    with (
        open_checkpoint(source.path) as checkpoint,
        ProgressDisplay(quiet=options["quiet"], counted="tokens") as progress,
    ):
        report = run_benchmark(
            checkpoint,
            settings,
            name=source.name,
            threads=options["threads"],
            backend=options["backend"],
            cache_type=options["cache_type"],
            progress=lambda done, total: progress(f"measuring {source.name}", done, total),
        )
    if options["as_json"]:
        click.echo(json.dumps(report.as_record(), indent=2))
    elif options["as_markdown"]:
        click.echo(report.as_markdown())
    else:
        click.echo(report.as_text(blocks=_has_blocks()))
    if plot is not None:
        plot_curves(report, plot)


def _has_blocks() -> bool:
    """Whether the terminal, or the file, can take block characters."""
    try:
        "█▏±".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
