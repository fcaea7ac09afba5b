"""`nextn mtp`: prediction heads as files, one file per verb."""

from __future__ import annotations

import importlib

import click

from nextn.cli.command import WithExamples, debug_option

VERBS = ("check", "extract", "attach", "detach")
"""Every verb; its file has the same name."""


class Group(WithExamples, click.Group):
    """A group that imports a verb when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, or None."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"nextn.cli.mtp.{cmd_name}").command
        return command


@click.group(
    cls=Group,
    name="mtp",
    examples=(
        "nextn mtp check smollm2",
        "nextn mtp extract model.gguf -o mtp.gguf",
        "nextn mtp attach other-quant.gguf mtp.gguf -o with-head.gguf",
    ),
)
@debug_option
def command() -> None:
    """See, check and move the prediction heads of models."""
