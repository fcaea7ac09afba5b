"""What an answer is made of: pieces of text, reasoning and tool calls, as they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """The begin of a tool call.

    Attributes:
        index: its number in this answer, from 0.
        name: the tool.
    """

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A fragment of the arguments of call `index`; joined, they are a JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of call `index`.

    Attributes:
        complete: whether the arguments are a whole JSON object.
    """

    index: int
    complete: bool


Part: TypeAlias = Text | Reasoning | CallBegin | CallArguments | CallEnd


class Parser(Protocol):
    """Finds the parts in the text of a model."""

    def push(self, text: str) -> list[Part]:
        """Take the next piece; return the parts that became certain."""

    def finish(self) -> list[Part]:
        """Return what is left at the end of the text."""


class PlainParser:
    """Takes all text for the answer."""

    def push(self, text: str) -> list[Part]:
        """See `Parser.push`."""
        return [Text(text)] if text else []

    def finish(self) -> list[Part]:
        """See `Parser.finish`."""
        return []
