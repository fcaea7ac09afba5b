"""Calls written parameter by parameter between tags, which become JSON arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nextn.text.dialects.base import Call, CallFormat, Term, as_json
from nextn.text.dialects.json_calls import choice, read_end
from nextn.text.dialects.json_values import MAX_KEY
from nextn.text.dialects.output import Output
from nextn.text.dialects.parameter_values import (
    json_of,
    string_only,
    types_of,
    value_rule,
    written,
)
from nextn.text.dialects.reader import Steps
from nextn.text.dialects.tools import FREE_KEY, MAX_NAME, NAME, Tool, ToolSchemaError, is_name

_KEY = re.compile(r'[^<>"\n]*')

_MAX_RULES = 4 << 20
"""Most characters of grammar rules: each parameter has all definitions that it may refer to."""


@dataclass(frozen=True)
class ParameterCalls(CallFormat):
    r"""Calls with a tag per parameter.

    A value that its schema calls a string is taken as it stands and handed out as it comes. Others
    are JSON, and strings where they are not.

    Attributes:
        outer: the tags around a call, or around all of them. The second is "" where the end of the
            call is that of the outer tag.
        call: what stands before the name of the tool, after it, and at the end of the call.
        parameter: what stands before the name of a parameter, after it, before the value and after
            it.
        per_call: whether each call has the outer tags.
        line: what stands between a value and the tags around it: a line break where a value has
            lines of its own.
        typed: whether the tag of a parameter says if it is a string, as DeepSeek V3.2's does.
        python: whether the model writes True, False and None.
    """

    outer: tuple[str, str]
    call: tuple[str, str, str]
    parameter: tuple[str, str, str, str]
    per_call: bool = True
    line: str = ""
    typed: bool = False
    python: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """The tags that have no names in them."""
        tags = (*self.outer, *self.call, *self.parameter)
        return tuple(tag for tag in tags if tag[:1] == "<" and tag[-1:] == ">")

    def parse(self, output: Output) -> Steps[None]:
        """Report text and calls up to the end of the text."""
        reader = output.reader
        starts = (self.outer[0], *filter(None, [self.call[0]]))
        inside = False
        while (yield from output.read_text(*starts)):
            yield from reader.spaces()
            mark = yield from reader.accept(*starts)
            after_mark = reader.at
            inside = inside or mark == self.outer[0]
            if mark == self.outer[0] and self.call[0]:
                yield from reader.spaces()
                mark = yield from reader.accept(self.call[0])
            # Models forget the outer tag; then only the names of tools begin a call.
            if mark and (yield from self._read_call(output, known=not inside)):
                before = reader.at
                yield from read_end(output, *filter(None, [self.outer[1]]))
                inside = not self.per_call and reader.at == before
            else:
                inside = False
                reader.at = after_mark
                output.text()

    def _read_call(self, output: Output, *, known: bool) -> Steps[bool]:
        """Report a call whose name comes next; False, with nothing reported, if there is none."""
        reader = output.reader
        name = yield from reader.match(NAME, MAX_NAME)
        good = is_name(name) and (not known or name in output.tools)
        if not good or (self.call[1] and not (yield from reader.accept(self.call[1]))):
            return False
        after_name = reader.at
        if not (yield from self._next_tag(output)):
            return False
        reader.at = after_name
        output.begin(name)
        tool = output.tools.get(name, Tool(name))
        opening = "{"
        while True:
            after_value = reader.at
            tag = yield from self._next_tag(output)
            if tag == self.call[2]:
                output.arguments("{}" if opening == "{" else "}")
                output.end(complete=True)
                return True
            found = (yield from self._read_key(output)) if tag else None
            if found is None:
                reader.at = after_value
                output.end(complete=False)
                return True
            key, is_string = found
            output.arguments(f"{opening}{as_json(key)}: ")
            opening = ", "
            if not (yield from self._read_value(output, tool.schema_of(key), is_string)):
                output.end(complete=False)
                return True

    def _next_tag(self, output: Output) -> Steps[str]:
        """Step over the begin of a parameter or the end of the call; "" if neither comes next."""
        yield from output.reader.spaces()
        return (yield from output.reader.accept(self.parameter[0], self.call[2]))

    def _read_key(self, output: Output) -> Steps[tuple[str, bool | None] | None]:
        """Step over the rest of a parameter's tag.

        Returns:
            The name, and whether the tag says that the value is a string; None if it is no tag.
        """
        reader = output.reader
        _, after_key, before_value, _ = self.parameter
        key = yield from reader.match(_KEY, MAX_KEY)
        if not key or not (yield from reader.accept(after_key)):
            return None
        is_string = None
        if self.typed:
            kind = yield from reader.accept(*_TYPED)
            if not kind:
                return None
            is_string = kind == _TYPED[0]
        if before_value:
            yield from reader.spaces()
            if not (yield from reader.accept(before_value)):
                return None
        if self.line:
            yield from reader.accept(self.line)
        return key, is_string

    def _read_value(self, output: Output, schema: Any, is_string: bool | None) -> Steps[bool]:
        """Report a value, and step over the tag after it; False if the text ends before that."""
        reader = output.reader
        if is_string or (is_string is None and string_only(schema)):
            output.arguments('"')
            with reader.waiting(output.string):
                whole = yield from self._go_to_end(output)
            output.string()
            if whole:
                yield from self._accept_end(output)
                output.arguments('"')
            return whole
        start = reader.at
        whole = yield from self._go_to_end(output)
        value = reader.between(start, reader.at)
        if whole:
            yield from self._accept_end(output)
            schema = None if self.typed else schema
            output.arguments(json_of(value, schema, python=self.python))
        else:
            output.string()
        return whole

    def _go_to_end(self, output: Output) -> Steps[bool]:
        """Go to the tag after a value, or the line break before it; False if there is none.

        A tag that neither a parameter nor the end of the call follows is a part of the value.
        """
        reader = output.reader
        while (yield from reader.until(*self._ends)):
            end = reader.at
            with reader.waiting(_nothing):  # what is looked ahead at stays unread
                yield from self._accept_end(output)
                after = reader.at
                followed = yield from self._next_tag(output)
                ended = not (yield from reader.peek())
            if followed or ended:
                reader.at = end
                return True
            reader.at = after
        return False

    def _accept_end(self, output: Output) -> Steps[None]:
        yield from output.reader.accept(*self._ends)

    @property
    def _ends(self) -> tuple[str, ...]:
        """What may stand after a value."""
        end = self.parameter[3]
        return (self.line + end, end) if self.line else (end,)

    def write(self, calls: Sequence[Call]) -> str:
        """Calls as the model writes them."""
        bodies = []
        for name, arguments in calls:
            pieces = [self._begin(name)]
            for key, value in arguments.items():
                head, tail = self._around(key, isinstance(value, str))
                pieces.append(f"{head}{written(value, python=self.python)}{tail}")
            bodies.append("".join([*pieces, self._end]))
        begin, between, end = self._outer()
        return begin + between.join(bodies) + end

    def grammar(self, tools: Sequence[Tool], term: Term, *, several: bool) -> str:
        """See `CallFormat.grammar`."""
        calls: list[str] = []
        rules: list[str] = []
        length = 0
        for tool in tools:
            for form in tool.forms():
                terms = [term(self._begin(tool.name))]
                for key, schema, required in form.parameters():
                    head, tail = self._around(key, string_only(schema))
                    name = f"p_{len(rules)}"
                    rules.append(value_rule(name, schema, term, head, tail, python=self.python))
                    length += len(rules[-1])
                    if length > _MAX_RULES:
                        raise ToolSchemaError(
                            tool.name,
                            "is too large with what each parameter refers to; use less $ref",
                        )
                    terms.append(name if required else f"{name}?")
                if form.free is not False:
                    terms.append(f"p_{len(rules)}*")
                    rules.append(self._free_rule(f"p_{len(rules)}", form.others(), term))
                calls.append(" ".join([*terms, term(self._end)]))
        begin, between, end = (term(text) if text else "" for text in self._outer())
        more = f" ({between} call)*" if several else ""
        return "\n".join([f"calls: {begin} call{more} {end}", choice(calls), *rules])

    def _free_rule(self, name: str, schema: Any, term: Term) -> str:
        """Lark rules, the first of which is a parameter of any name with a value of a schema."""
        # Any text is a value where the schema does not say more: JSON, or else a string.
        schemas = [schema]
        if types_of(schema) is None:
            schemas = [_STRING, schema] if self.typed else [_STRING]
        rules = []
        for i, each in enumerate(schemas):
            head, tail = self._around("", string_only(each))
            head = head.removeprefix(self.parameter[0])
            rules.append(value_rule(f"{name}_{i}", each, term, head, tail, python=self.python))
        values = " | ".join(f"{name}_{i}" for i in range(len(schemas)))
        return "\n".join([f"{name}: {term(self.parameter[0])} {FREE_KEY} ({values})", *rules])

    def _outer(self) -> tuple[str, str, str]:
        """What stands before all calls, between two of them, and after all."""
        begin = self.outer[0] + ("\n" if self.call[0] else "")
        if not self.per_call:
            return begin, "", self.outer[1]
        end = f"\n{self.outer[1]}" if self.outer[1] else ""
        return begin, f"{end}\n{begin}", end

    @property
    def _end(self) -> str:
        return self.call[2] if self.per_call else f"{self.call[2]}\n"

    def _begin(self, name: str) -> str:
        return f"{self.call[0]}{name}{self.call[1]}\n"

    def _around(self, key: str, is_string: bool) -> tuple[str, str]:
        """What stands before and after a value."""
        before, after_key, before_value, end = self.parameter
        kind = _TYPED[0 if is_string else 1] if self.typed else ""
        middle = f"\n{before_value}" if before_value else ""
        return f"{before}{key}{after_key}{kind}{middle}{self.line}", f"{self.line}{end}\n"


_STRING = {"type": "string"}
_TYPED = (' string="true">', ' string="false">')


def _nothing() -> None:
    pass
