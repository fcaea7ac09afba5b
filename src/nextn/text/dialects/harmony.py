"""The harmony format of gpt-oss: messages on channels, one of them for reasoning.

Source: "OpenAI harmony response format" of the OpenAI cookbook. A message has a header with a
channel and perhaps a recipient, in either order, and then its content, as in
`<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>{...}<|call|>`. The prompt ends
with `<|start|>assistant`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from nextn.text.dialects.base import Call, CallFormat, ReasoningMarks, Term, as_json
from nextn.text.dialects.json_calls import choice, json_rule
from nextn.text.dialects.output import Output
from nextn.text.dialects.parameter_values import text_up_to
from nextn.text.dialects.reader import Steps
from nextn.text.dialects.tools import Tool, is_name

_START, _CHANNEL, _MESSAGE, _CONSTRAIN = "<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_MAX_HEADER = 512
_RECIPIENT = re.compile(r"to=functions\.([^\s<]+)")
_HEADER = re.compile(r"[^<]*")


@dataclass(frozen=True)
class HarmonyCalls(CallFormat):
    """Messages on channels: analysis is reasoning, final is text, and commentary has the calls."""

    always: ClassVar[bool] = True
    answer_mark: ClassVar[str] = f"{_CHANNEL}final{_MESSAGE}"
    reasoning: ClassVar[ReasoningMarks | None] = ReasoningMarks(
        f"{_CHANNEL}analysis{_MESSAGE}", f"{_ENDS[0]}{_START}assistant"
    )

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks; those that end a text are none of it."""
        return (_START, _CHANNEL, _MESSAGE, _CONSTRAIN, _ENDS[0])

    def parse(self, output: Output) -> Steps[None]:
        """Report reasoning, text and calls up to the end of the text."""
        reader = output.reader
        more = True
        while more:
            begin = reader.at
            header = yield from self._read_header(output)
            recipient = _RECIPIENT.search(header) if output.tools else None
            reasoning = False
            if not header:
                # No header: text, up to where one may begin.
                reader.at = begin
                yield from reader.accept(*_HEADS, *_ENDS)
                output.text()
            elif recipient and is_name(recipient.group(1)):
                yield from self._read_call(output, recipient.group(1))
            else:
                reasoning = "analysis" in header
                output.mark()
            more = yield from self._read_content(output, reasoning)

    def _read_header(self, output: Output) -> Steps[str]:
        """Step over a header; "" if there is none."""
        reader = output.reader
        start = reader.at
        mark = yield from reader.accept(" to=", *_HEADS)
        while mark and mark != _MESSAGE and reader.at - start < _MAX_HEADER:
            yield from reader.match(_HEADER, _MAX_HEADER)
            mark = yield from reader.accept(*_HEADS)
        return reader.between(start, reader.at) if mark == _MESSAGE else ""

    def _read_call(self, output: Output, name: str) -> Steps[None]:
        """Report a call, whose arguments come next."""
        reader = output.reader
        output.begin(name)
        yield from reader.spaces()
        before = reader.at
        if not (yield from reader.peek()) or (yield from reader.accept(*_ENDS)):
            reader.at = before
            output.arguments("{}")
            output.end(complete=True)
        elif (yield from output.read_arguments()):
            output.end(complete=True)

    def _read_content(self, output: Output, reasoning: bool) -> Steps[bool]:
        """Report what a message says, and its end; False at the end of the text."""
        report = output.reasoning if reasoning else output.text
        with output.reader.waiting(report):
            mark = yield from output.reader.until(*_ENDS, _START, _CHANNEL)
        report()
        if mark in _ENDS:
            yield from output.reader.accept(mark)
            output.mark()
        return bool(mark)

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them; it ends its turn after each."""
        written = [f"{_call(name)}{as_json(arguments)}" for name, arguments in calls]
        return f"{_ENDS[1]}{_START}assistant".join(written)

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`; there is one call, since the model's turn ends with it."""
        call = choice([f"{term(_call(tool.name))} {json_rule(tool)}" for tool in tools])
        return "\n".join(["calls: analysis? call", *self._analysis(term), call])

    def before_answer(self, term: Term) -> tuple[str, str]:
        """Perhaps reasoning, and the header of the final message."""
        return f"analysis? {term(self.answer_mark)}", "\n".join(self._analysis(term))

    def _analysis(self, term: Term) -> list[str]:
        """Rules for a message with reasoning."""
        assert self.reasoning is not None
        head = term(self.reasoning.begin)
        return [f"analysis: {head} thought", text_up_to("thought", self.reasoning.end, term)]


_HEADS = (_START, _CHANNEL, _CONSTRAIN, _MESSAGE)


def _call(name: str) -> str:
    """What stands before the arguments."""
    return f"{_CHANNEL}commentary to=functions.{name} {_CONSTRAIN}json{_MESSAGE}"
