"""Calls written as JSON objects with a name and arguments, alone or in a list, between marks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from nextn.text.dialects.base import Call, CallFormat, Term, as_json
from nextn.text.dialects.json_values import MAX_KEY, read_space, read_string, read_value
from nextn.text.dialects.output import Output
from nextn.text.dialects.reader import Reader, Steps
from nextn.text.dialects.tools import MAX_NAME, Tool, is_name, with_settings

_NAME_KEYS = ("name",)
_ARGUMENT_KEYS = ("arguments", "parameters")
_KEYS = (*_NAME_KEYS, *_ARGUMENT_KEYS, "type", "id")


@dataclass(frozen=True)
class JsonCalls(CallFormat):
    r"""Calls as JSON between marks: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

    Both a single object and a list of them are read, whatever the model is used to.

    Attributes:
        begin: the mark before a call or list of calls.
        end: the mark after it; "" if there is none.
        listed: whether the model writes its calls as one list.
        inner: what it writes between a mark and the JSON.
        key: what it calls the arguments.
    """

    begin: str
    end: str
    listed: bool = False
    inner: str = ""
    key: str = "arguments"

    @property
    def marks(self) -> tuple[str, ...]:
        """The two marks."""
        return (self.begin, self.end) if self.end else (self.begin,)

    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""
        while (yield from output.read_text(self.begin)):
            yield from output.reader.spaces()
            yield from output.reader.accept(self.begin)
            after_mark = output.reader.at
            if not (yield from read_calls(output)):
                # No call: the mark is text, and what follows is looked at again.
                output.reader.at = after_mark
                output.text()
            elif self.end:
                yield from read_end(output, self.end)

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""
        written = [
            f'{{"name": {as_json(name)}, "{self.key}": {as_json(arguments)}}}'
            for name, arguments in calls
        ]
        if self.listed:
            written = [f"[{', '.join(written)}]"]
        return "\n".join(
            f"{self.begin}{self.inner}{each}{self.inner}{self.end}" for each in written
        )

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        begin, end = term(self.begin + self.inner), term(self.inner + self.end)
        if self.listed:
            more = f" ({term(', ')} call)*" if several else ""
            calls = f"calls: {begin} {term('[')} call{more} {term(']')} {end}"
        else:
            one = f"{begin} call {end}"
            more = f" ({term(chr(10))} {one})*" if several else ""
            calls = f"calls: {one}{more}"
        return f"{calls}\n{object_rules(tools, term, self.key)}"


@dataclass(frozen=True)
class BareCalls(CallFormat):
    r"""Calls as a bare JSON object at the begin of the answer, as Llama 3 writes them.

    `<|python_tag|>` may stand before it; several are separated by ";". Since a JSON object may be
    an answer as well, it is a call only if it names a tool that may be called.
    """

    @property
    def marks(self) -> tuple[str, ...]:
        """The mark that may stand before a call."""
        return (_PYTHON_TAG,)

    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""
        reader = output.reader
        yield from reader.spaces()
        yield from reader.accept(_PYTHON_TAG)
        yield from reader.spaces()
        while (yield from read_call(output, known=True)):
            before = reader.at
            yield from reader.spaces()
            if not (yield from reader.accept(";", _PYTHON_TAG)):
                reader.at = before
                break
            yield from reader.spaces()
        yield from output.read_text()

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""
        return "; ".join(
            f'{{"name": {as_json(name)}, "parameters": {as_json(arguments)}}}'
            for name, arguments in calls
        )

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        more = f" ({term('; ')} call)*" if several else ""
        return f"calls: call{more}\n{object_rules(tools, term, 'parameters')}"


_PYTHON_TAG = "<|python_tag|>"


def object_rules(tools: Sequence[Tool], term: Term, key: str) -> str:
    """A rule `call` for JSON objects with name and arguments."""
    calls = []
    for tool in tools:
        head = f'{{"name": {as_json(tool.name)}, "{key}": '
        calls.append(f"{term(head)} {json_rule(tool)} {term('}')}")
    return choice(calls)


def choice(calls: Sequence[str]) -> str:
    """A rule `call` that is one of several."""
    rules = [f"call_{i}: {call}" for i, call in enumerate(calls)]
    return "\n".join([f"call: {' | '.join(f'call_{i}' for i in range(len(calls)))}", *rules])


def json_rule(tool: Tool) -> str:
    """The term for the JSON arguments of a tool."""
    return f"%json {json.dumps(with_settings(tool.schema))}"


def read_end(output: Output, *marks: str) -> Steps[None]:
    """Report a mark that ends calls, and the white space before it, if it is there."""
    before = output.reader.at
    yield from output.reader.spaces()
    if (yield from output.reader.accept(*marks)) or output.reader.accept_begun(*marks):
        output.mark()
    else:
        output.reader.at = before


def read_calls(output: Output) -> Steps[bool]:
    """Report a call, or a list of calls; False, before anything is reported, if there is none."""
    reader = output.reader
    yield from reader.spaces()
    if not (yield from reader.accept("[")):
        return (yield from read_call(output))
    yield from reader.spaces()
    if not (yield from read_call(output)):
        return False
    while True:
        after_call = reader.at
        yield from reader.spaces()
        if (yield from reader.accept("]")):
            output.mark()
            return True
        if (yield from reader.accept(",")):
            yield from reader.spaces()
            if (yield from read_call(output)):
                continue
        reader.at = after_call
        return True


def read_call(output: Output, *, known: bool = False) -> Steps[bool]:
    """Report a call that is a JSON object; False, before anything is reported, if it is none.

    Args:
        output: the text.
        known: whether it must have arguments and name a tool that may be called.
    """
    reader = output.reader
    name, arguments, begun = "", "" if known else "{}", False
    if not (yield from reader.accept("{")):
        return False
    yield from read_space(reader)
    after = reader.at
    while True:
        key = yield from _read_key(reader)
        if key in _NAME_KEYS and not name:
            name = yield from _read_short_string(reader, MAX_NAME)
            good = name in output.tools if known else is_name(name)
        elif key in _ARGUMENT_KEYS and name and not begun:
            if (yield from reader.peek()) != "{":
                return False
            output.begin(name)
            begun = True
            if not (yield from output.read_arguments()):
                return True
            good = True
        else:
            start = reader.at
            good = key is not None and (key in _KEYS or not known)
            good = good and (yield from read_value(reader))
            if good and key in _ARGUMENT_KEYS and not begun:
                arguments = reader.between(start, reader.at)
                good = arguments.startswith("{")
        if not good and not begun:
            return False
        if good:
            after = reader.at
            yield from read_space(reader)
            if (yield from reader.accept("}")):
                break
            good = bool((yield from reader.accept(",")))
            yield from read_space(reader)
        if not good:
            if not begun:
                return False
            # The arguments are whole, only the rest is broken.
            reader.at = after
            output.end(complete=True)
            return True
    if not begun:
        if not (name and arguments):
            return False
        output.begin(name)
        output.arguments(arguments)
    output.end(complete=True)
    return True


def _read_key(reader: Reader) -> Steps[str | None]:
    """Step over a key and its colon; None if there is none."""
    key = yield from _read_short_string(reader, MAX_KEY)
    yield from read_space(reader)
    if not (yield from reader.accept(":")):
        return None
    yield from read_space(reader)
    return key


def _read_short_string(reader: Reader, limit: int) -> Steps[str]:
    """Step over a string; "" if it is none, or longer than `limit`."""
    start = reader.at
    if not (yield from read_string(reader)) or reader.at - start > limit:
        return ""
    text: str = json.loads(reader.between(start, reader.at))
    return text
