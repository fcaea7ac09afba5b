"""Where a text goes while it is written: to people, or as JSON lines."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Protocol

import click

from nextn.cli.provenance import Provenance, choose_means
from nextn.cli.statistics import INTERRUPTED, statistics_line, statistics_record
from nextn.cli.text import without_control
from nextn.errors import NextnError

if TYPE_CHECKING:
    from nextn.engine import Statistics, Token
    from nextn.engine.session import TokenStream


class Output(Protocol):
    """Takes the tokens of one text, then its statistics."""

    def token(self, token: Token) -> None:
        """Write one token."""

    def break_off(self) -> None:
        """End the text, because an error message follows."""

    def end(self, stream: TokenStream, finish_reason: str) -> None:
        """End the text and say what there is to say about it."""


class PlainOutput:
    """The text on standard output, one line of statistics on standard error.

    Args:
        show_drafts: mark the tokens that a draft foresaw, by drafter, and count them; see
            `nextn.cli.provenance`.
        quiet: no statistics.
        verbose: say the seed and what became of the prompt, too.
    """

    def __init__(
        self, *, show_drafts: bool = False, quiet: bool = False, verbose: bool = False
    ) -> None:
        self._quiet = quiet
        self._verbose = verbose
        # A pipe gets what the model wrote, byte for byte; a terminal must not be steered by it.
        self._terminal = sys.stdout.isatty()
        self._provenance = (
            Provenance(choose_means(), sys.stdout.encoding or "ascii") if show_drafts else None
        )
        self._line_open = False

    def token(self, token: Token) -> None:
        """See `Output.token`."""
        text = without_control(token.text) if self._terminal else token.text
        shown = text if self._provenance is None else self._provenance.mark(token, text)
        if text:
            self._line_open = not text.endswith("\n")
            _write(shown)

    def break_off(self) -> None:
        """See `Output.break_off`."""
        if self._provenance is not None and (bracket := self._provenance.close()):
            _write(bracket)
            self._line_open = True
        if self._line_open:
            _write("\n")
            self._line_open = False

    def end(self, stream: TokenStream, finish_reason: str) -> None:
        """See `Output.end`."""
        self.break_off()
        if self._quiet:
            return
        if self._verbose:
            say(_details(stream.statistics, stream.seed))
        if self._provenance is not None:
            click.echo(self._provenance.legend(), err=True, color=_forced_colour())
        say(statistics_line(stream.statistics, finish_reason))


class JsonOutput:
    """One JSON object per line on standard output: tokens, then the statistics.

    Args:
        model: what the model is called.
    """

    def __init__(self, model: str) -> None:
        self._model = model

    def token(self, token: Token) -> None:
        """See `Output.token`."""
        record: dict[str, Any] = {
            "type": "token",
            "text": token.text,
            "id": token.id,
            "position": token.position,
            "drafter": token.drafter,
        }
        if token.logprob is not None:
            record["logprob"] = token.logprob
            record["top_logprobs"] = [list(pair) for pair in token.top_logprobs]
        _write(json.dumps(record) + "\n")

    def break_off(self) -> None:
        """Do nothing: every line is complete."""

    def end(self, stream: TokenStream, finish_reason: str) -> None:
        """See `Output.end`."""
        record = {
            "type": "statistics",
            "model": self._model,
            "finish_reason": finish_reason,
            "seed": stream.seed,
            **statistics_record(stream.statistics),
        }
        _write(json.dumps(record) + "\n")


def write_text(stream: TokenStream, output: Output) -> tuple[str, str]:
    """Write a text as it comes; Ctrl-C ends it cleanly.

    Returns:
        The text, and why it ended: a finish reason of the engine, or `INTERRUPTED`.
    """
    reason = INTERRUPTED
    pieces: list[str] = []
    try:
        with stream:
            for token in stream:
                pieces.append(token.text)
                output.token(token)
                reason = token.finish_reason or reason
    except KeyboardInterrupt:
        reason = INTERRUPTED
    except NextnError:
        output.break_off()
        raise
    output.end(stream, reason)
    return "".join(pieces), reason


def say(line: str) -> None:
    """A line on standard error, dimmed on a terminal, where the text matters more."""
    click.echo(click.style(line, dim=True), err=True)


def _forced_colour() -> bool | None:
    """Whether colours are wanted on standard error, too; None to decide by what it is."""
    return True if os.environ.get("FORCE_COLOR") else None


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _details(statistics: Statistics, seed: int) -> str:
    return (
        f"prompt of {statistics.prompt_tokens} tokens, {statistics.cached_tokens} of them cached, "
        f"read at {statistics.prompt_tokens_per_second:.1f} tokens/s; {statistics.steps} steps; "
        f"{statistics.accepted} of {statistics.drafted} drafted tokens accepted; seed {seed}"
    )
