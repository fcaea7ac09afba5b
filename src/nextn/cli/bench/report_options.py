"""Options that `nextn bench` and `nextn bench serve` share: of the texts, and of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from nextn.cli.command import F, option, together

_OUTPUT = "Output"


def temperature_option(section: str) -> Callable[[F], F]:
    """The temperature, greedy if it is not given."""
    return option(
        section,
        "--temp",
        "--temperature",
        "temperature",
        type=float,
        default=0.0,
        show_default=True,
        help="Divides the logits; 0 always takes the most probable token.",
    )


def report_options(*, json: str, plot: str) -> Callable[[F], F]:
    """The forms of the report; see `check_forms`.

    Args:
        json: help of --json.
        plot: help of --plot.
    """
    return together(
        option(_OUTPUT, "--json", "as_json", is_flag=True, help=json),
        option(_OUTPUT, "--md", "as_markdown", is_flag=True, help="Write Markdown tables."),
        option(
            _OUTPUT,
            "--plot",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help=plot,
        ),
        option(_OUTPUT, "-q", "--quiet", is_flag=True, help="No progress."),
    )


def check_forms(options: Mapping[str, Any]) -> None:
    """Refuse two forms at once.

    Raises:
        click.UsageError: both were given.
    """
    if options["as_json"] and options["as_markdown"]:
        raise click.UsageError("--json and --md exclude each other")
