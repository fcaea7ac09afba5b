"""Calls as Gemma writes them: `call:NAME{key:value,...}` with marks around strings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextn.text.dialects.base import Call, CallFormat, Term, as_json
from nextn.text.dialects.json_calls import choice
from nextn.text.dialects.json_values import MAX_DEPTH, MAX_KEY, read_value
from nextn.text.dialects.output import Output
from nextn.text.dialects.parameter_values import text_up_to, types_of
from nextn.text.dialects.reader import Steps
from nextn.text.dialects.tools import MAX_NAME, NAME, Tool, is_name, properties_of

_KEY = re.compile(r'[^:,{}\[\]<>"\s]*')

_SCALARS = {
    "integer": "/-?(0|[1-9][0-9]*)/",
    "number": r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}
_MAX_RULE_DEPTH = 8
"""Deepest nesting of a schema that grammar rules keep to; what is deeper is text."""


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
            return f"{{{','.join(f'{key}:{self._written(each)}' for key, each in items)}}}"
        if isinstance(value, list | tuple):
            return f"[{','.join(self._written(each) for each in value)}]"
        return as_json(value)

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        rules: list[str] = []
        calls = [
            f"{term(f'{self.begin}call:{tool.name}')} "
            f"{self._rule({'type': 'object', **tool.parameters}, term, rules)} {term(self.end)}"
            for tool in tools
        ]
        start = f"calls: {'call+' if several else 'call'}"
        return "\n".join([start, choice(calls), *rules])

    def _rule(self, schema: Any, term: Term, rules: list[str], depth: int = 0) -> str:
        """The name of a rule for values of a schema.

        Types, enumerations, properties and items are kept to; what else a schema may say is not.
        """
        name = f"v_{len(rules)}"
        rules.append("")  # keeps the number; others are made for parts of the schema
        schema = schema if isinstance(schema, Mapping) else {}
        types = types_of(schema) or {"string"}
        fixed = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(fixed, list):
            rule = f"{name}: {' | '.join(term(self._written(value)) for value in fixed)}"
        else:
            kinds = [self._kind(kind, schema, term, rules, depth) for kind in sorted(types)]
            rule = f"{name}: {' | '.join(kinds)}"
        rules[int(name[2:])] = rule
        return name

    def _kind(self, kind: str, schema: Any, term: Term, rules: list[str], depth: int) -> str:
        """The term for values of one type."""
        if depth < _MAX_RULE_DEPTH and kind == "object":
            return self._object(schema, term, rules, depth)
        if depth < _MAX_RULE_DEPTH and kind == "array":
            item = self._rule(schema.get("items", {}), term, rules, depth + 1)
            return f"{term('[')} ({item} ({term(',')} {item})*)? {term(']')}"
        if kind in _SCALARS:
            return _SCALARS[kind]
        name = f"v_{len(rules)}"
        rules.append(text_up_to(name, self.quote, term))
        return f"{term(self.quote)} {name}"

    def _object(self, schema: Any, term: Term, rules: list[str], depth: int) -> str:
        """The term for an object: its properties in order, with commas between those given."""
        properties = sorted(properties_of(schema), key=lambda each: each[0].lower())
        first = rest = term("}")
        for key, value, required in reversed(properties):
            given = f"{term(f'{key}:')} {self._rule(value, term, rules, depth + 1)}"
            name = f"o_{len(rules)}"
            skip_first, skip_rest = ("", "") if required else (f" | {first}", f" | {rest}")
            rules.append(
                f"{name}f: {given} {rest}{skip_first}\n"
                f"{name}r: {term(',')} {given} {rest}{skip_rest}"
            )
            first, rest = f"{name}f", f"{name}r"
        return f"{term('{')} {first}"
