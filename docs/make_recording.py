"""Writes docs/run.svg: what `nextn run` shows on a terminal, from a real run.

Arguments are those of `nextn run`; without any, a run is recorded that shows drafts at work.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).with_name("run.svg")
WIDTH = 96
DEFAULT = (
    "smollm2",
    "Write a Python class Point with x and y, with add, sub, mul and repr methods.",
    "--temp",
    "0",
    "-n",
    "130",
)


def record(arguments: list[str]) -> str:
    """Run `nextn run` with drafted tokens in colour; returns both of its streams as one text."""
    result = subprocess.run(
        [sys.executable, "-m", "nextn.cli", "run", *arguments, "--show-drafts"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"COLUMNS": str(WIDTH), "FORCE_COLOR": "1"},
        text=True,
        check=True,
    )
    return result.stdout


def main() -> None:
    """Record the run that the arguments ask for."""
    arguments = sys.argv[1:] or list(DEFAULT)
    command = shlex.join(["nextn", "run", *arguments, "--show-drafts"])
    shown = record(arguments)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(shown))
    PICTURE.write_text(console.export_svg(title="nextn run"), encoding="utf-8")
    print(shown, end="")


if __name__ == "__main__":
    main()
