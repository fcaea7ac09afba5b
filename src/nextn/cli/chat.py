"""The chat on a terminal: messages with line editing and history, answers as they are written."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nextn.cli.head_text import useless_text
from nextn.cli.output import PlainOutput, say, write_text
from nextn.cli.statistics import INTERRUPTED, draft_text, total
from nextn.cli.text import one_line
from nextn.errors import NextnError

if TYPE_CHECKING:
    from nextn.engine import Statistics
    from nextn.model import Model

_PROMPT = ">>> "
_MORE = "... "
_FENCE = '"""'
_HISTORY_LINES = 1000
_COMMAND = re.compile(r"/(?P<name>[a-z?]+)\s*")

_HELP = f"""\
/clear    forget the conversation
/stats    speed and drafts of the conversation so far
/exit     leave; so does Ctrl-D
/help     this page
{_FENCE} begins and ends a message of several lines. Ctrl-C ends an answer early."""


class Chat:
    """A conversation, whose beginning stays in the model's prefix cache from turn to turn.

    Args:
        model: who answers.
        settings: how; see `nextn.model.Model`.
        options: the options of `nextn run`.
        read: reads a line after showing a prompt; raises EOFError at the end.

    Attributes:
        messages: the conversation so far.
    """

    def __init__(
        self,
        model: Model,
        settings: dict[str, Any],
        options: dict[str, Any],
        read: Callable[[str], str] = input,
    ) -> None:
        self._model = model
        self._settings = settings
        self._options = options
        self._read = read
        self._template = options["chat_template_kwargs"]
        system = options["system"]
        self._start = [] if system is None else [{"role": "system", "content": system}]
        self.messages: list[dict[str, str]] = list(self._start)
        self._statistics: list[Statistics] = []
        self._told_useless = False

    def run(self) -> None:
        """Chat until the user leaves.

        Raises:
            UnsupportedModelError: the model has no chat template.
            TemplateError: its chat template is broken.
        """
        _ = self._model.chat_template  # says at once what is wrong with it
        say(f"{one_line(self._model.name)}: /help shows the commands, Ctrl-D ends the chat")
        with _history():
            while (text := self._next_message()) is not None:
                command = _COMMAND.fullmatch(text)
                if command is None:
                    self.answer(text)
                elif not self._obey(command["name"]):
                    return

    def answer(self, text: str) -> None:
        """Add a message of the user and the answer to it; an error is shown and changes nothing."""
        self.messages.append({"role": "user", "content": text})
        try:
            stream = self._model.stream_chat(
                self.messages, template=self._template, **self._settings
            )
            answer, reason = write_text(
                stream,
                PlainOutput(
                    show_drafts=self._options["show_drafts"],
                    quiet=self._options["quiet"],
                    verbose=self._options["verbose"],
                ),
            )
        except NextnError as error:
            self.messages.pop()
            click.echo(f"nextn: error: {one_line(str(error))}; /clear starts anew", err=True)
        except KeyboardInterrupt:
            # Before the first token: nothing was said.
            self.messages.pop()
            click.echo(err=True)
        else:
            if reason == INTERRUPTED and not stream.statistics.tokens:
                self.messages.pop()  # nothing was said
                return
            self._statistics.append(stream.statistics)
            self.messages.append({"role": "assistant", "content": answer})
            self._tell_useless()

    def _tell_useless(self) -> None:
        """Say once that a drafter was given up."""
        useless = self._model.engine.useless
        if useless is None or self._told_useless or self._options["quiet"]:
            return
        self._told_useless = True
        say(useless_text(useless))

    def _next_message(self) -> str | None:
        """What the user enters next; None at the end."""
        while True:
            try:
                text = self._read_message()
            except KeyboardInterrupt:
                click.echo("\nCtrl-D or /exit ends the chat", err=True)
                continue
            except EOFError:
                click.echo(err=True)
                return None
            if text.strip():
                return text.strip()

    def _read_message(self) -> str:
        text = self._read(_PROMPT)
        if not text.lstrip().startswith(_FENCE):
            return text
        text = text.lstrip().removeprefix(_FENCE)
        while not text.rstrip().endswith(_FENCE):
            text += "\n" + self._read(_MORE)
        return text.rstrip().removesuffix(_FENCE)

    def _obey(self, name: str) -> bool:
        """Obey a command; False if it ends the chat."""
        if name in ("exit", "quit", "bye"):
            return False
        if name == "clear":
            self.messages = list(self._start)
            self._statistics.clear()
            say("the conversation is forgotten")
        elif name == "stats":
            say(self._summary())
        elif name in ("help", "?"):
            say(_HELP)
        else:
            say(f"there is no command /{name}; /help shows them")
        return True

    def _summary(self) -> str:
        if not self._statistics:
            return "nothing was written yet"
        last = self._statistics[-1]
        sums = total(self._statistics)
        # Each text has a first token, which its speed leaves out.
        writing = sums.seconds - sums.time_to_first_token
        later = sums.tokens - len(self._statistics)
        answers = f"{len(self._statistics)} answer{'' if len(self._statistics) == 1 else 's'}"
        speed = f"{later / writing:.1f} tokens/s, " if writing > 0 else ""
        return (
            f"{answers}, {sums.tokens} tokens, {speed}"
            f"{sums.tokens_per_step:.2f} tokens per step, "
            f"{draft_text(sums.drafted, sums.accepted)}; "
            f"{sums.cached_tokens} of {sums.prompt_tokens} prompt tokens were cached; "
            f"{last.prompt_tokens + last.tokens} of {self._model.context_length} tokens of the "
            "context are used"
        )


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, with the lines of earlier chats; readable for the user alone."""
    try:
        import readline
    except ImportError:  # Python was built without it; input() works all the same
        yield
        return
    path = _history_path()
    # A history that cannot be read or kept must not stop a chat.
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(path)


def _history_path() -> Path:
    import platformdirs

    return platformdirs.user_state_path("nextn") / "chat_history"
