"""The options that give the form of a text, under llama.cpp's names."""

from __future__ import annotations

from pathlib import Path

import click

from nextn.cli.command import option, together

FORM_NAMES = ("json_schema", "grammar", "regex", "grammar_after")

_FORM = "Form of the text"


def _text_or_file(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """The value itself if it is a schema or grammar, else what is in the file of that name.

    Every schema has a brace, and every rule of a grammar a colon.
    """
    if value is None or "{" in value or ":" in value:
        return value
    try:
        return Path(value).read_text("utf-8")
    except OSError as error:
        raise click.BadParameter(f"{value}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise click.BadParameter(f"{value}: byte {error.start} is not UTF-8") from error


form_options = together(
    option(
        _FORM,
        "-j",
        "--json-schema",
        "-jf",
        "--json-schema-file",
        "json_schema",
        callback=_text_or_file,
        metavar="JSON|FILE",
        help="Write JSON that follows this schema; '{}' allows any.",
    ),
    option(
        _FORM,
        "--grammar",
        "--grammar-file",
        "grammar",
        callback=_text_or_file,
        metavar="TEXT|FILE",
        help="Write what this grammar allows, in llama.cpp's GBNF or llguidance's Lark.",
    ),
    option(
        _FORM,
        "--regex",
        metavar="REGEX",
        help="Write a text that this regular expression matches as a whole.",
    ),
    option(
        _FORM,
        "--grammar-after",
        metavar="TEXT",
        help="The form begins behind this text, such as '</think>'; before it, the model is free.",
    ),
)
