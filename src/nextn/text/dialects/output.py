"""What a format's parser reads from and reports to."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nextn.text.dialects.deltas import (
    CallArguments,
    CallBegin,
    CallEnd,
    Delta,
    Mark,
    Reasoning,
    Text,
)
from nextn.text.dialects.json_values import read_value
from nextn.text.dialects.reader import Reader, Steps
from nextn.text.dialects.tools import Tool


class Output:
    """Reports pieces of the text. What was read since the last report is the source of each.

    Args:
        tools: the tools that may be called, by name.

    Attributes:
        reader: the text.
        tools: those tools.
        deltas: what was reported.
    """

    def __init__(self, tools: Mapping[str, Tool]) -> None:
        self.reader = Reader()
        self.tools = tools
        self.deltas: list[Delta] = []
        self._index = -1
        self._ends_with_call = False

    def text(self) -> None:
        """What was read is a part of the answer."""
        source = self.reader.take()
        if source:
            self._ends_with_call = False
            last = self.deltas[-1] if self.deltas else None
            if isinstance(last, Text):
                self.deltas[-1] = Text(last.text + source)
            else:
                self.deltas.append(Text(source))

    def reasoning(self) -> None:
        """What was read is a part of the reasoning."""
        source = self.reader.take()
        if source:
            self.deltas.append(Reasoning(source))

    def mark(self) -> None:
        """What was read is structure."""
        source = self.reader.take()
        if source:
            self.deltas.append(Mark(source))

    def begin(self, name: str) -> None:
        """What was read begins a call."""
        self._index += 1
        self.deltas.append(CallBegin(self._index, name, self.reader.take()))

    def arguments(self, text: str | None = None) -> None:
        """What was read is a fragment of the arguments, or stands for `text` in them."""
        source = self.reader.take()
        if source or text:
            text = source if text is None else text
            self.deltas.append(CallArguments(self._index, text, source))

    def string(self) -> None:
        """What was read is a fragment of a string in the arguments."""
        source = self.reader.take()
        if source:
            self.deltas.append(CallArguments(self._index, json.dumps(source)[1:-1], source))

    def end(self, *, complete: bool) -> None:
        """What was read ends the call."""
        self._ends_with_call = True
        self.deltas.append(CallEnd(self._index, complete, self.reader.take()))

    def read_text(self, *marks: str) -> Steps[str]:
        """Report text up to the first of some marks, without the white space before it.

        Returns:
            The mark; the place is at the white space before it. "" at the end of the text.
        """
        with self.reader.waiting(self.text):
            mark = yield from self.reader.until(*marks, spaces=bool(marks))
        if self._ends_with_call and not mark and self.reader.untaken().isspace():
            self.mark()
        self.text()
        return mark

    def read_arguments(self) -> Steps[bool]:
        """Report JSON arguments as they come; False, after the end of the call, if broken."""
        with self.reader.waiting(self.arguments):
            complete = (yield from self.reader.peek()) == "{"
            complete = complete and (yield from read_value(self.reader))
        self.arguments()
        if not complete:
            self.end(complete=False)
        return complete
