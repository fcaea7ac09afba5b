"""What a model's text is made of: the pieces that a parser hands out.

Every piece has a `source`: the part of the model's text that it stands for. The sources of all
pieces, joined, are that text, so that nothing is ever lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer; it is its own source."""

    text: str

    @property
    def source(self) -> str:
        """The text itself."""
        return self.text


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thought before it answered; it is its own source."""

    text: str

    @property
    def source(self) -> str:
        """The text itself."""
        return self.text


@dataclass(frozen=True, slots=True)
class Mark:
    """Structure, such as "</think>", that is part of nothing else."""

    source: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """The begin of a tool call.

    Attributes:
        index: its number in this text, from 0.
        name: the tool.
        source: from the mark to where the arguments begin.
    """

    index: int
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A fragment of the arguments of call `index`; joined, they are a JSON object."""

    index: int
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of call `index`.

    Attributes:
        complete: whether the arguments are a whole JSON object. They are not where the text breaks
            off within them, or where what follows is no JSON; what follows then is text.
    """

    index: int
    complete: bool
    source: str


Delta: TypeAlias = Text | Reasoning | Mark | CallBegin | CallArguments | CallEnd
