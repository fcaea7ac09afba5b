"""What all verbs share: the shape of their help page, and `--debug`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

NAMES = {"help_option_names": ["-h", "--help"]}
"""Settings of every command."""

INTERRUPTED_STATUS = 130
"""What a shell reports for a process that Ctrl-C ended."""


@dataclass(slots=True)
class Settings:
    """What the options of the whole command line say; every context holds the same one.

    Attributes:
        debug: show tracebacks.
    """

    debug: bool = False


class Option(click.Option):
    """An option that knows which section of the help page it belongs to."""

    def __init__(self, *arguments: Any, section: str | None = None, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.section = section


class WithExamples(click.Command):
    """A command whose help page shows examples.

    Args:
        examples: command lines.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.context_settings = {**NAMES, **self.context_settings}
        self.examples = examples

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the text, then the examples."""
        super().format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{example}\n")


class Verb(WithExamples):
    """A command whose help page lists its options section by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a section last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            # The arguments are in the usage line and the text above.
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                section = getattr(parameter, "section", None)
                (sections.setdefault(section, []) if section else others).append(record)
        for title, records in (*sections.items(), ("Other options", others)):
            with formatter.section(title if sections else "Options"):
                formatter.write_dl(records)


def option(section: str | None, *names: str, **attributes: Any) -> Callable[[F], F]:
    """A `click.option` in a section of the help page."""
    return click.option(*names, cls=Option, section=section, **attributes)


def together(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator; they are listed in this order."""

    def decorate(function: F) -> F:
        for one in reversed(options):
            function = one(function)
        return function

    return decorate


def _switch_debug_on(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    settings = context.find_object(Settings)
    if value and settings is not None:
        settings.debug = True


debug_option: Callable[[Any], Any] = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_switch_debug_on,
    help="Show the traceback of an error.",
)
"""`--debug`, which every verb takes."""
