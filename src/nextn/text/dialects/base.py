"""What a dialect is: how a family of models writes reasoning and tool calls."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

from nextn.text.dialects.deltas import Delta
from nextn.text.dialects.output import Output
from nextn.text.dialects.reader import Steps
from nextn.text.dialects.tools import Tool

Call: TypeAlias = tuple[str, Mapping[str, Any]]
"""The name of a tool and its arguments."""

Term: TypeAlias = Callable[[str], str]
"""Makes of a text the term of a Lark grammar that stands for it."""


class CallFormat(ABC):
    """How tool calls are written.

    Attributes:
        always: whether it has to parse texts without calls, too.
        answer_mark: what stands before an answer that is no call; "" if nothing does.
        reasoning: how reasoning is written, if `parse` covers it.
    """

    always: ClassVar[bool] = False
    answer_mark: ClassVar[str] = ""
    reasoning: ClassVar[ReasoningMarks | None] = None

    @property
    @abstractmethod
    def marks(self) -> tuple[str, ...]:
        """Texts that may be control tokens, and must be part of the text to be found."""

    @abstractmethod
    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""

    @abstractmethod
    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""

    @abstractmethod
    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """Lark rules, among them `calls`, for one call of the tools, or for one or more.

        Args:
            tools: at least one.
            term: makes terms of texts.
            several: whether several calls are allowed.
        """

    def before_answer(self, term: Term) -> tuple[str, str]:
        """What a grammar has before such an answer: terms, and rules that they need."""
        return "", ""


@dataclass(frozen=True)
class ReasoningMarks:
    """How reasoning is written: between two marks, before the answer.

    Attributes:
        begin: the mark before it.
        end: the mark after it.
    """

    begin: str
    end: str

    def opened_by(self, opening: str) -> bool:
        """Whether the end of a prompt opens the reasoning."""
        return opening.rstrip().endswith(self.begin)

    def parse(self, output: Output, *, opened: bool) -> Steps[None]:
        """Report the reasoning that the text begins with, if it does.

        White space at its ends belongs to the marks.

        Args:
            output: the text.
            opened: whether the prompt ends with the first mark.
        """
        reader = output.reader
        yield from reader.spaces()
        found = yield from reader.accept(self.begin)
        if not (found or opened):
            return
        if found:
            yield from reader.spaces()
        output.mark()
        with reader.waiting(output.reasoning):
            mark = yield from reader.until(self.end, spaces=True)
        output.reasoning()
        if mark:
            yield from reader.spaces()
            yield from reader.accept(mark)
            yield from reader.spaces()
            output.mark()


@dataclass(frozen=True)
class Dialect:
    """How a model writes reasoning and tool calls.

    Attributes:
        name: for messages and the documentation.
        calls: how it writes calls.
        reasoning: how it writes reasoning; None if it does not, or if `calls` covers it.
        lists_tools: whether its chat template tells the model about the tools.
        ids: what ids of calls its chat template wants: "any", "short" (9 letters or digits), or
            "numbered" ("functions.NAME:NUMBER").
    """

    name: str
    calls: CallFormat
    reasoning: ReasoningMarks | None = None
    lists_tools: bool = False
    ids: Literal["any", "short", "numbered"] = "any"

    def marks(self, *, tools: bool) -> frozenset[str]:
        """Texts that the parser must see even if they are control tokens.

        Args:
            tools: whether calls are looked for.
        """
        reasoning = (self.reasoning.begin, self.reasoning.end) if self.reasoning else ()
        return frozenset((*reasoning, *(self.calls.marks if tools else ())))

    @property
    def reasoning_marks(self) -> ReasoningMarks | None:
        """What stands around reasoning at the begin of a text; None if the model writes none."""
        return self.reasoning or self.calls.reasoning

    def opened_by(self, opening: str) -> bool:
        """Whether the end of a prompt opens the reasoning."""
        return self.reasoning is not None and self.reasoning.opened_by(opening)

    def parser(self, tools: Iterable[Tool] = (), *, opening: str = "") -> Parser:
        """A parser for one text.

        Args:
            tools: the tools that may be called; without any, calls are text.
            opening: the end of the prompt, which may open the reasoning.
        """
        return Parser(self, {tool.name: tool for tool in tools}, opening)


class Parser:
    """Takes a text piece by piece, and hands out what it is made of.

    However the text is cut, the pieces of each kind joined are the same.
    """

    def __init__(self, dialect: Dialect, tools: Mapping[str, Tool], opening: str) -> None:
        self._output = Output(tools)
        self._steps: Steps[None] | None = self._parse(dialect, opening)
        self._advance()

    def push(self, text: str) -> list[Delta]:
        """Take the next piece of the text, and return what became certain."""
        if not text:
            return []
        self._output.reader.push(text)
        self._advance()
        return self._handed_out()

    def finish(self) -> list[Delta]:
        """What is left, once it is known that no more text will come."""
        self._output.reader.ended = True
        self._advance()
        return self._handed_out()

    def _parse(self, dialect: Dialect, opening: str) -> Steps[None]:
        if dialect.reasoning is not None:
            opened = dialect.opened_by(opening)
            yield from dialect.reasoning.parse(self._output, opened=opened)
        if self._output.tools or dialect.calls.always:
            yield from dialect.calls.parse(self._output)
        yield from self._output.read_text()

    def _advance(self) -> None:
        if self._steps is not None:
            try:
                next(self._steps)
            except StopIteration:
                self._steps = None

    def _handed_out(self) -> list[Delta]:
        deltas, self._output.deltas = self._output.deltas, []
        return deltas


def as_json(value: Any) -> str:
    """JSON as models write it."""
    return json.dumps(value, ensure_ascii=False)
