"""Calls written as a name, a mark and JSON arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nextn.text.dialects.base import Call, CallFormat, Term, as_json
from nextn.text.dialects.json_calls import (
    choice,
    json_rule,
    object_rules,
    read_calls,
    read_end,
)
from nextn.text.dialects.output import Output
from nextn.text.dialects.reader import Steps
from nextn.text.dialects.tools import MAX_NAME, NAME, Tool, is_name


@dataclass(frozen=True)
class MistralCalls(CallFormat):
    """Calls after `[TOOL_CALLS]`, in each of Mistral's ways.

    Older models write one mark and a JSON list of calls; later ones a mark per call, the name,
    perhaps `[CALL_ID]` and an id, `[ARGS]`, and the arguments.

    Attributes:
        listed: whether the model writes a list.
    """

    listed: bool

    @property
    def marks(self) -> tuple[str, ...]:
        """The three marks."""
        return (_TOOL_CALLS, _ARGS, _CALL_ID)

    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""
        reader = output.reader
        while (yield from output.read_text(_TOOL_CALLS)):
            yield from reader.spaces()
            yield from reader.accept(_TOOL_CALLS)
            after_mark = reader.at
            yield from reader.spaces()
            listed = (yield from reader.peek()) in ("[", "{")
            if not (yield from read_calls(output) if listed else self._read_call(output)):
                reader.at = after_mark
                output.text()

    def _read_call(self, output: Output) -> Steps[bool]:
        """Report a call; False, before anything is reported, if there is none."""
        reader = output.reader
        name = yield from reader.match(NAME, MAX_NAME)
        if not is_name(name):
            return False
        if (yield from reader.accept(_CALL_ID)):
            yield from reader.match(NAME, MAX_NAME)
        yield from reader.accept(_ARGS)
        yield from reader.spaces()
        if (yield from reader.peek()) != "{":
            return False
        output.begin(name)
        if (yield from output.read_arguments()):
            output.end(complete=True)
        return True

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""
        if not self.listed:
            return "".join(f"{_TOOL_CALLS}{name}{_ARGS}{as_json(args)}" for name, args in calls)
        written = as_json([{"name": name, "arguments": args} for name, args in calls])
        return f"{_TOOL_CALLS} {written}"

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        if self.listed:
            more = f" ({term(', ')} call)*" if several else ""
            calls = f"calls: {term(_TOOL_CALLS + ' [')} call{more} {term(']')}"
            return f"{calls}\n{object_rules(tools, term, 'arguments')}"
        call = choice([f"{term(_TOOL_CALLS + t.name + _ARGS)} {json_rule(t)}" for t in tools])
        return f"calls: {'call+' if several else 'call'}\n{call}"


_TOOL_CALLS, _ARGS, _CALL_ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"


@dataclass(frozen=True)
class SectionCalls(CallFormat):
    """Calls in a section, each with marks around its name and its arguments.

    Attributes:
        section: the marks around all calls.
        call: the marks around one call.
        middle: the mark before the arguments.
        fenced: whether the model writes as DeepSeek V3 does: "function", the mark, the name, and
            the arguments in a Markdown block.
        numbered: whether a name is written as "functions.NAME:NUMBER".
    """

    section: tuple[str, str]
    call: tuple[str, str]
    middle: str
    fenced: bool = False
    numbered: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """The five marks."""
        return (*self.section, *self.call, self.middle)

    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""
        reader = output.reader
        starts = (self.section[0], self.call[0])
        while (yield from output.read_text(*starts)):
            yield from reader.spaces()
            mark = yield from reader.accept(*starts)
            after_mark = reader.at
            yield from reader.spaces()
            if mark == self.section[0]:
                mark = yield from reader.accept(self.call[0])
            if mark and (yield from self._read_call(output)):
                yield from read_end(output, self.section[1])
            else:
                reader.at = after_mark
                output.text()

    def _read_call(self, output: Output) -> Steps[bool]:
        """Report a call; False, before anything is reported, if there is none."""
        reader = output.reader
        fence = ""
        yield from reader.spaces()
        name = yield from reader.match(NAME, MAX_NAME)
        if not (yield from reader.accept(self.middle)):
            return False
        if name == _KIND:
            second = yield from reader.match(NAME, MAX_NAME)
            name = second or name
            yield from reader.spaces()
            fence = yield from reader.accept(_FENCE)
        if self.numbered:
            name = name.removeprefix("functions.").rpartition(":")[0]
        yield from reader.spaces()
        if not is_name(name) or (yield from reader.peek()) != "{":
            return False
        output.begin(name)
        if (yield from output.read_arguments()):
            after_arguments = reader.at
            yield from reader.spaces()
            if fence and (yield from reader.accept(_FENCE_END)):
                yield from reader.spaces()
            if not (yield from reader.accept(self.call[1])):
                reader.at = after_arguments
            output.end(complete=True)
        return True

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""
        written = []
        for i, (name, arguments) in enumerate(calls):
            head, tail = self._around(f"functions.{name}:{i}" if self.numbered else name)
            written.append(f"{head}{as_json(arguments)}{tail}")
        joined = ("\n" if self.fenced else "").join(written)
        return f"{self.section[0]}{joined}{self.section[1]}"

    def _around(self, name: str) -> tuple[str, str]:
        """What is written before and after the arguments."""
        if self.fenced:
            head = f"{_KIND}{self.middle}{name}\n{_FENCE}\n"
            return self.call[0] + head, f"\n{_FENCE_END}{self.call[1]}"
        return f"{self.call[0]}{name}{self.middle}", self.call[1]

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        calls = []
        for tool in tools:
            # Numbers count the calls of a conversation; the parser reads any.
            name = f"functions.{tool.name}:0" if self.numbered else tool.name
            head, tail = self._around(name)
            calls.append(f"{term(head)} {json_rule(tool)} {term(tail)}")
        separator = term("\n") + " " if self.fenced else ""
        more = f" ({separator}call)*" if several else ""
        begin, end = (term(mark) for mark in self.section)
        return f"calls: {begin} call{more} {end}\n{choice(calls)}"


_KIND, _FENCE, _FENCE_END = "function", "```json", "```"
