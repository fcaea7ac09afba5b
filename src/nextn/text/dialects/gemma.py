"""Calls as Gemma writes them: `call:NAME{key:value,...}` with marks around strings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextn.text.dialects.base import Call, CallFormat, Term, as_json
from nextn.text.dialects.gemma_rules import ValueRules
from nextn.text.dialects.json_calls import choice
from nextn.text.dialects.json_values import MAX_DEPTH, MAX_KEY, read_value
from nextn.text.dialects.output import Output
from nextn.text.dialects.reader import Steps
from nextn.text.dialects.tools import MAX_NAME, NAME, Tool, is_name

_KEY = re.compile(r'[^:,{}\[\]<>"\s]*')


@dataclass(frozen=True)
class GemmaCalls(CallFormat):
    """Calls between marks, with strings between marks of their own.

    Attributes:
        begin: the mark before a call.
        end: the mark after it.
        quote: the mark before and after a string.
    """

    begin: str
    end: str
    quote: str

    @property
    def marks(self) -> tuple[str, ...]:
        """The three marks."""
        return (self.begin, self.end, self.quote)

    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""
        reader = output.reader
        while (yield from output.read_text(self.begin)):
            yield from reader.spaces()
            yield from reader.accept(self.begin)
            after_mark = reader.at
            yield from reader.spaces()
            yield from reader.accept("call:")
            name = yield from reader.match(NAME, MAX_NAME)
            if not is_name(name) or (yield from reader.peek()) != "{":
                reader.at = after_mark
                output.text()
                continue
            output.begin(name)
            if not (yield from self._read_value(output)):
                output.end(complete=False)
                continue
            after_arguments = reader.at
            yield from reader.spaces()
            if not (yield from reader.accept(self.end)):
                reader.at = after_arguments
            output.end(complete=True)

    def _read_value(self, output: Output, depth: int = 0) -> Steps[bool]:
        """Report a value as JSON; False, somewhere within it, if it is none."""
        reader = output.reader
        first = yield from reader.peek()
        if first in ("{", "["):
            reader.at += 1
            output.arguments(first)
            return depth < MAX_DEPTH and (yield from self._read_items(output, first, depth))
        if (yield from reader.accept(self.quote)):
            return (yield from self._read_string(output))
        if (yield from reader.accept("None")):
            output.arguments("null")
            return True
        good = first not in ("", '"') and (yield from read_value(reader))
        if good:
            output.arguments()
        return good

    def _read_items(self, output: Output, first: str, depth: int) -> Steps[bool]:
        reader = output.reader
        end = "}" if first == "{" else "]"
        yield from reader.spaces()
        if (yield from reader.accept(end)):
            output.arguments(end)
            return True
        while True:
            if first == "{" and not (yield from self._read_key(output)):
                return False
            if not (yield from self._read_value(output, depth + 1)):
                return False
            yield from reader.spaces()
            if (yield from reader.accept(end)):
                output.arguments(end)
                return True
            if not (yield from reader.accept(",")):
                return False
            yield from reader.spaces()
            output.arguments(", ")

    def _read_key(self, output: Output) -> Steps[bool]:
        """Report a key and its colon."""
        reader = output.reader
        quoted = yield from reader.accept(self.quote)
        start = reader.at
        if quoted:
            yield from reader.until(self.quote)
            key = reader.between(start, reader.at)
            good = bool((yield from reader.accept(self.quote)))
        else:
            key = yield from reader.match(_KEY, MAX_KEY)
            good = bool(key)
        yield from reader.spaces()
        if not good or not (yield from reader.accept(":")):
            return False
        yield from reader.spaces()
        output.arguments(f"{as_json(key)}: ")
        return True

    def _read_string(self, output: Output) -> Steps[bool]:
        """Report the string that a mark began."""
        output.arguments('"')
        with output.reader.waiting(output.string):
            found = yield from output.reader.until(self.quote)
        output.string()
        if found:
            yield from output.reader.accept(self.quote)
            output.arguments('"')
        return bool(found)

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""
        return "".join(
            f"{self.begin}call:{name}{self._written(arguments)}{self.end}"
            for name, arguments in calls
        )

    def _written(self, value: Any) -> str:
        if isinstance(value, str):
            return f"{self.quote}{value}{self.quote}"
        if isinstance(value, Mapping):
            # Sorted, as the template does it.
            items = sorted(value.items(), key=lambda item: item[0].lower())
            pairs = (f"{self._written_key(key)}:{self._written(each)}" for key, each in items)
            return f"{{{','.join(pairs)}}}"
        if isinstance(value, list | tuple):
            return f"[{','.join(self._written(each) for each in value)}]"
        return as_json(value)

    def _written_key(self, key: str) -> str:
        """A key as it can be read again: between marks if it is no plain word."""
        plain = _KEY.fullmatch(key) and 0 < len(key) <= MAX_KEY
        return key if plain else f"{self.quote}{key}{self.quote}"

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        values = ValueRules(term, self.quote, self._written, self._written_key)
        calls = [
            f"{term(f'{self.begin}call:{tool.name}')} {values.arguments(tool)} {term(self.end)}"
            for tool in tools
        ]
        start = f"calls: {'call+' if several else 'call'}"
        return "\n".join([start, choice(calls), *values.rules])
