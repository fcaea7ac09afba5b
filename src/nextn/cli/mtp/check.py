"""`nextn mtp check`: is a model's prediction head well? One verdict, on one page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.options import (
    cache_type_option,
    model_option,
    offline_option,
    threads_option,
)
from nextn.cli.text import bytes_text, one_line, table

if TYPE_CHECKING:
    from nextn.tools.check import CheckReport, Measured

_MEASURING = "Measuring"
_OUTPUT = "Output"
_BLOCKS_SHOWN = 4
_THEIRS = "the trunk's"


@click.command(
    cls=Verb,
    name="check",
    examples=(
        "nextn mtp check smollm2",
        "nextn mtp check model.gguf --head mtp.gguf --html check.html",
        "nextn mtp check model.gguf --quick --json",
    ),
)
@click.argument("name", metavar="[MODEL]", required=False)
@model_option
@option(
    "Model",
    "--head",
    metavar="[auto|FILE]",
    default="auto",
    show_default=True,
    help="A file with a head for the model. By default the one inside the model's file, beside it "
    "as mtp-*.gguf, or among those that come with nextn.",
)
@threads_option
@cache_type_option
@offline_option
@option(
    _MEASURING,
    "--quick",
    is_flag=True,
    help="Look at the files only; no text is written, and acceptance not measured.",
)
@option(
    _MEASURING,
    "--thorough",
    is_flag=True,
    help="Try to undo rare mistakes, too, on a head that seems well.",
)
@option(
    _MEASURING,
    "--categories",
    metavar="NAME,...",
    help="Tasks to write texts for: code, structured, qa, summarise, translate, reasoning, "
    "creative, chat, multiturn.  [default: all]",
)
@option(
    _MEASURING,
    "--prompts",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Prompts of each task.",
)
@option(
    _MEASURING,
    "-n",
    "--n-gen",
    "tokens",
    type=int,
    default=48,
    show_default=True,
    metavar="N",
    help="Most tokens of a text.",
)
@option(_OUTPUT, "--json", "as_json", is_flag=True, help="Write one JSON object.")
@option(
    _OUTPUT,
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with pictures, too; they need matplotlib.",
)
@option(_OUTPUT, "-q", "--quiet", is_flag=True, help="No progress.")
@debug_option
def command(
    name: str | None,
    model: str | None,
    head: str,
    threads: int | None,
    cache_type: str,
    offline: bool,
    quick: bool,
    thorough: bool,
    categories: str | None,
    prompts: int,
    tokens: int,
    as_json: bool,
    page: Path | None,
    quiet: bool,
) -> int:
    """Check the prediction head of a model, and say in one word what it is.

    First the files: is the head that is declared there, whole, of the right shapes, in the right
    block, for this model and vocabulary? Are its numbers finite, and do its norms, scales and
    precision look like those of a head that works? Then, if nextn runs the family, the model
    writes texts: the head is asked after every token, the texts must be the same with and without
    drafts, and experiments show whether each part of the head brings something, and whether a known
    mistake was made with it, such as exchanged halves or shifted norms.

    The exit status is the verdict: 0 healthy, 3 weak, 4 dead (next to no draft is right), 5 absent,
    6 broken; 2 is an error. With --quick, or for a family that nextn does not run, it rests on the
    files alone.
    """
    if (name is None) == (model is None):
        raise click.UsageError("give one model")
    from nextn.cli.loading import find_model
    from nextn.cli.progress import ProgressDisplay
    from nextn.tools.check import CheckSettings, TextSettings, check_head
    from nextn.tools.check.html import check_page, write_page

    if page is not None:
        check_page(page, pictures=not quick)
    texts = TextSettings(prompts=prompts, tokens=tokens)
    if categories is not None:
        names = tuple(part.strip() for part in categories.split(",") if part.strip())
        texts = TextSettings(names, prompts, tokens)
    settings = CheckSettings(head, quick, thorough, texts, threads, cache_type)
    source = find_model(name or model or "", offline=offline, quiet=quiet)
    with ProgressDisplay(quiet=quiet, counted="done") as progress:
        report = check_head(source, settings, progress)
    if page is not None:
        write_page(report, page)
    click.echo(json.dumps(report.as_record(), indent=2) if as_json else _page(report))
    return report.verdict.exit_status


def _page(report: CheckReport) -> str:
    rows = [
        ("verdict", f"{str(report.verdict).upper()}: {report.reason}"),
        ("model", f"{report.name}, {report.trunk}"),
        ("head", "none" if report.head is None else _head(report)),
        *((str(one.severity), f"{one.where}: {one.text}") for one in report.findings),
    ]
    if report.measured is not None:
        rows += _measured_rows(report.measured)
    elif report.head is not None and report.not_measured is not None:
        rows.append(("not measured", report.not_measured))
    parts = [table([(title, one_line(text)) for title, text in rows])]
    for lines in (report.acceptance_rows(), report.part_rows(), report.estimate_rows()):
        found = list(lines)
        if found:
            parts.append(table(found))
    return "\n\n".join(parts)


def _head(report: CheckReport) -> str:
    where = {
        "inside": "inside the model's file",
        "beside": f"beside the model: {report.head}",
        "shipped": f"that comes with nextn: {report.head}",
        "given": f"{report.head}",
    }[report.origin or "given"]
    if report.layout is None or not report.layout.tensors:
        return where
    size = sum(one.bytes for one in report.tensors)
    formats = dict.fromkeys(one.format for one in report.tensors if one.is_matrix)
    blocks = ", ".join(map(str, report.layout.blocks[:_BLOCKS_SHOWN]))
    owners = [
        f"{'its own' if own else _THEIRS} {name}"
        for own, name in (
            (report.layout.own_embedding, "embedding"),
            (report.layout.own_output, "output matrix"),
        )
    ]
    return (
        f"{where} ({len(report.tensors)} tensors in block {blocks}, {bytes_text(size)}, "
        f"{', '.join(formats)}, {' and '.join(owners)})"
    )


def _measured_rows(measured: Measured) -> Iterator[tuple[str, str]]:
    costs = measured.costs
    yield "same text", "yes" if measured.same_text else "no: a defect of nextn"
    yield (
        "memory",
        f"{bytes_text(costs.weight_bytes)} of weights, {bytes_text(costs.cache_bytes)} of cache "
        f"for {costs.context:,} tokens, {bytes_text(costs.working_bytes)} to work",
    )
    if costs.step_seconds:
        yield (
            "time",
            f"{1e3 * costs.draft_seconds:.2f} ms for a drafted token, beside "
            f"{1e3 * costs.step_seconds:.2f} ms for a step of the model",
        )
    yield "recommended", costs.recommendation
    if costs.measured_speed_up is not None:
        yield (
            "speed-up",
            f"{costs.measured_speed_up:.2f} measured on these texts, with automatic drafts",
        )
