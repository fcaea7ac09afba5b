"""The `nextn` command itself: finds the verb, and turns errors into one line."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from nextn.cli.command import INTERRUPTED_STATUS, Settings, WithExamples, debug_option
from nextn.cli.text import one_line
from nextn.errors import NextnError

VERBS = (
    "run", "serve", "pull", "list", "show", "convert", "compare", "bench", "train", "mtp",
    "quantize", "imatrix", "env",
)  # fmt: skip
"""Every verb; its file, or its folder of further verbs, has the same name."""

_ALIASES = {"ls": "list"}

ERROR_STATUS = 2
_DEFECT_STATUS = 70  # EX_SOFTWARE of sysexits.h


class Application(WithExamples, click.Group):
    """A group that imports a verb when it is used, and says every error in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a verb, or None."""
        name = _ALIASES.get(cmd_name, cmd_name)
        if name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"nextn.cli.{name}").command
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; ends the process unless `standalone_mode` is off."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        settings = Settings()
        try:
            status = super().main(args, prog_name, complete_var, False, obj=settings, **extra)
        except click.Abort:
            sys.exit(INTERRUPTED_STATUS)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(ERROR_STATUS)
        except Exception as error:
            if settings.debug:
                traceback.print_exc()
            click.echo(_describe(error), err=True)
            known = isinstance(error, (NextnError, click.ClickException, MemoryError, OSError))
            sys.exit(ERROR_STATUS if known else _DEFECT_STATUS)
        sys.exit(status if isinstance(status, int) else 0)


def _describe(error: Exception) -> str:
    if isinstance(error, NextnError):
        text = str(error)
    elif isinstance(error, click.ClickException):
        text = error.format_message().rstrip(".")
        if isinstance(error, click.UsageError) and error.ctx is not None:
            text += f"; see {error.ctx.command_path} --help"
    elif isinstance(error, OSError):
        # Of files of models and prompts nextn knows more to say; this is a full disk, or the like.
        text = f"{error.filename or 'output'}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        text = "out of memory; use a smaller context (-c) or a smaller model"
    else:
        text = (
            f"internal: {type(error).__name__}: {error}; this is a defect of nextn, please report "
            "it with the output of `nextn env` and of the same command with --debug"
        )
    return f"nextn: error: {one_line(text)}"


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from nextn.cli.env import nextn_version

        click.echo(f"nextn {nextn_version()}")
        context.exit()


@click.group(
    cls=Application,
    examples=(
        'nextn run smollm2 "Write a haiku about the sea."',
        "nextn run smollm2",
        'git diff | nextn run smollm2 "Describe this change."',
        "nextn show model.gguf",
    ),
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@debug_option
def application() -> None:
    """Run open-weight language models, several tokens per forward pass."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments`, by default those of the process; ends the process."""
    application.main(arguments, prog_name="nextn")
