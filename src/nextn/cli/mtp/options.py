"""The options that the verbs for heads share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from nextn.cli.command import option


def output_option(*, required: bool) -> Callable[[Any], Any]:
    """`-o`, the file to write."""
    return option(
        None,
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        required=required,
        help="The file to write; an existing one is replaced.",
    )


json_option = option(None, "--json", "as_json", is_flag=True, help="Write one JSON object.")
quiet_option = option(None, "-q", "--quiet", is_flag=True, help="No progress and no summary.")
