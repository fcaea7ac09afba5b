"""Writes docs/cli.md from the commands; with --check, says whether it is up to date."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from nextn.cli import application

PAGE = Path(__file__).with_name("cli.md")
_HEADER = """\
# Command line

This page is written by `python docs/generate_cli.py` from the commands themselves; do not edit it.

Every error is one line on standard error with exit status 2; `--debug` adds the traceback. Ctrl-C
ends with status 130.
"""


def render() -> str:
    """The whole page."""
    sections = ("\n".join(_section(*each)) + "\n" for each in _verbs(application, "nextn"))
    return "\n".join((_HEADER, *sections))


def _verbs(group: Any, called: str) -> Iterator[tuple[str, click.Command]]:
    """All verbs of a group with their full names; those of a group within follow it."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if command is None:
            raise LookupError(f"{called} has no verb {name!r}")
        yield f"{called} {name}", command
        if hasattr(command, "list_commands"):
            yield from _verbs(command, f"{called} {name}")


def _section(called: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=called, **command.context_settings)
    yield f"## {called}"
    yield ""
    yield f"`{' '.join([context.command_path, *command.collect_usage_pieces(context)])}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        yield paragraph
    examples = getattr(command, "examples", ())
    if examples:
        yield from ("", "```sh", *examples, "```")
    title = ""
    for parameter in command.get_params(context):
        if not isinstance(parameter, click.Option):
            continue
        section = getattr(parameter, "section", None) or "Options"
        if section != title:
            title = section
            yield from ("", f"| {section} | |", "| --- | --- |")
        yield f"| {_names(parameter)} | {_meaning(parameter)} |"


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if option.is_flag:
        return names
    value = option.metavar or {"integer": "N", "float": "X", "filename": "PATH"}.get(
        option.type.name, "TEXT"
    )
    if isinstance(option.type, click.Choice):
        value = "|".join(option.type.choices)
    return f"{names} {value}".replace("|", "\\|")


def _meaning(option: click.Option) -> str:
    text = " ".join((option.help or "").split())
    if option.show_default:
        text += f"  [default: {option.default}]"
    return text.replace("|", "\\|").replace("<", "&lt;").replace("  [", " [")


def main() -> None:
    """Write the page, or check it."""
    page = render()
    if sys.argv[1:] == ["--check"]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            sys.exit(f"{PAGE} is out of date; run python docs/generate_cli.py")
    else:
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
