"""Grammar rules for values as Gemma writes them, from JSON schemas."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from nextn.errors import shown
from nextn.text.dialects.base import Term
from nextn.text.dialects.parameter_values import is_of, text_up_to, types_of
from nextn.text.dialects.tools import (
    FREE_KEY,
    Tool,
    ToolSchemaError,
    listed_properties,
    with_settings,
)
from nextn.text.schemas import cases, cases_key, impossible, merged, pointed_at

MAX_RULES = 5000
"""Most rules for the values of all tools."""

_MOST_REFERENCES = 16
"""References that lead to each other are followed so often."""

MAX_CASES = 256
"""Most cases of one value."""

_SCALARS = {
    "integer": "/-?(0|[1-9][0-9]*)/",
    "number": r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_MOST = {"Length": 1_000_000, "Items": 10_000}
"""Highest limits of lengths: more characters or items than that are not told from any number."""

_LIMITS = (*(f"{end}{what}" for what in _MOST for end in ("min", "max")), *_NUMBERS)
_SHAPES = (
    *("type", "properties", "items", "additionalProperties", "required"),
    *("allOf", "anyOf", "oneOf"),
    *_LIMITS,
)
"""Keywords that say something about a value beside its cases."""


class ValueRules:
    """Makes one rule per schema, and one per definition that schemas refer to.

    Types, enumerations, cases, properties, items, the values of free objects, lengths and limits of
    numbers are kept to; what else a schema may say is not.

    Args:
        term: makes terms of texts.
        quote: the mark before and after a string.
        written: how a value is written.
        written_key: how the name of a property is written.

    Attributes:
        rules: those so far.
    """

    def __init__(
        self,
        term: Term,
        quote: str,
        written: Callable[[Any], str],
        written_key: Callable[[str], str],
    ) -> None:
        self.rules = [text_up_to("quoted", quote, term)]
        self._term = term
        self._quote = quote
        self._written = written
        self._written_key = written_key
        self._made = 0
        self._tool = Tool("")
        self._whole: Mapping[str, Any] = {}
        self._named: dict[str, str] = {}
        self._waiting: deque[tuple[str, Any]] = deque()

    def arguments(self, tool: Tool) -> str:
        """The name of the rule for the arguments of a tool.

        Raises:
            ToolSchemaError: a reference leads nowhere, or there are too many rules.
        """
        self._tool, self._named = tool, {}
        self._whole = tool.schema
        name = self._rule({"$ref": "#"})
        # One after the other: definitions may lead to each other in a long chain.
        while self._waiting:
            rule, schema = self._waiting.popleft()
            self.rules.append(f"{rule}: {self._body(schema)}")
        return name

    def _rule(self, schema: Any) -> str:
        """The name of the rule for values of a schema, which is made later if it is new."""
        if isinstance(schema, Mapping) and "$ref" in schema and schema.keys() & set(_LIMITS):
            schema = self._merged(schema)
        schema, reference = self._target(schema)
        if reference in self._named:
            return self._named[reference]
        name = self._new_name("v")
        if reference:
            self._named[reference] = name
        self._waiting.append((name, schema))
        return name

    def _new_name(self, kind: str) -> str:
        self._made += 1
        if self._made > MAX_RULES:
            raise self._error(f"needs more than {MAX_RULES} grammar rules; make it simpler")
        return f"{kind}_{self._made}"

    def _error(self, reason: str) -> ToolSchemaError:
        return ToolSchemaError(self._tool.name, reason)

    def _target(self, schema: Any) -> tuple[Mapping[str, Any], str]:
        """What a schema refers to in the end, and the last reference; itself and "" if to nothing.

        Of what stands beside a reference, only limits are read, before.
        """
        reference = ""
        for _ in range(_MOST_REFERENCES):
            if not isinstance(schema, Mapping):
                return {}, reference
            following = schema.get("$ref")
            if not isinstance(following, str):
                return schema, reference
            reference = following
            try:
                schema = pointed_at(self._whole, reference)[-1]
            except LookupError as error:
                raise self._leads_to_nothing(error) from error
        raise self._error(f"$ref {shown(reference)} leads to itself")

    def _body(self, schema: Mapping[str, Any]) -> str:
        """What stands in the rule for a schema that is no reference."""
        if isinstance(schema.get("allOf"), list):
            schema = self._merged(schema)
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            values = [value for value in values if is_of(value, schema.get("type"))]
            if not values:
                raise self._error("enum is empty, so that no value is allowed")
            return " | ".join(self._term(self._written(value)) for value in values)
        if impossible(schema):
            raise self._error("allOf has types of which no value can be both")
        key = cases_key(schema)
        if key:
            others = {name: schema[name] for name in _SHAPES if name in schema and name != key}
            found = self._cases({**others, key: schema[key]}) if others else schema[key]
            return " | ".join(dict.fromkeys(map(self._rule, found)))
        kinds = sorted(types_of(schema) or {"string"})
        return " | ".join(self._kind(kind, schema) for kind in kinds)

    def _merged(self, *schemas: Any) -> dict[str, Any]:
        """One schema for values that fit all."""
        try:
            return merged(*schemas, whole=self._whole)
        except LookupError as error:
            raise self._leads_to_nothing(error) from error

    def _cases(self, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The schemas without cases of which values fit one."""
        try:
            found = cases(schema, whole=self._whole, most=MAX_CASES)
        except LookupError as error:
            raise self._leads_to_nothing(error) from error
        if found is None:
            raise self._error(f"anyOf and oneOf have more than {MAX_CASES} cases together")
        if not found:
            raise self._error("anyOf and oneOf have no case that fits what stands beside them")
        return found

    def _leads_to_nothing(self, error: LookupError) -> ToolSchemaError:
        return self._error(f"$ref {error} leads to nothing in the schema")

    def _kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        """The term for values of one type."""
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            low, high = self._lengths(schema, "Items")
            return self._listed("[", self._rule(schema.get("items")), "]", low, high)
        if kind in ("integer", "number") and (limits := schema.keys() & set(_NUMBERS)):
            limited = {"type": kind, **{name: schema[name] for name in sorted(limits)}}
            return f"%json {json.dumps(with_settings(limited))}"
        if kind in _SCALARS:
            return _SCALARS[kind]
        return f"{self._term(self._quote)} {self._quoted(*self._lengths(schema, 'Length'))}"

    def _quoted(self, low: int, high: int | None) -> str:
        """The name of the rule for so many characters and the mark after them."""
        name = "quoted"
        if (low, high) != (0, None):
            name = f"quoted_{low}_{'' if high is None else high}"
            rule = text_up_to(name, self._quote, self._term, low, high)
            if rule not in self.rules:
                self.rules.append(rule)
        return name

    def _lengths(self, schema: Mapping[str, Any], what: str) -> tuple[int, int | None]:
        """The least and the most of "Length" or "Items"; None for any number."""
        low, high = (self._length(schema, f"{end}{what}") for end in ("min", "max"))
        if low is not None and low > _MOST[what]:
            raise self._error(f"min{what} is {low}; up to {_MOST[what]} is possible")
        if low is not None and high is not None and low > high:
            raise self._error(f"min{what} {low} is more than max{what} {high}")
        return low or 0, None if high is None or high > _MOST[what] else high

    def _length(self, schema: Mapping[str, Any], key: str) -> int | None:
        value = schema.get(key)
        if value is None:
            return None
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or value < 0:
            raise self._error(f"{key} is {shown(repr(value))}; allowed: an integer from 0")
        return int(value)

    def _listed(
        self, begin: str, item: str, end: str, low: int = 0, high: int | None = None
    ) -> str:
        """The term for a number of items between brackets."""
        term = self._term
        if high == 0:
            return f"{term(begin)} {term(end)}"
        most = "" if high is None else high - 1
        more = "" if most == 0 else f" ({term(',')} {item}){{{max(low - 1, 0)},{most}}}"
        some = f"{item}{more}" if low else f"({item}{more})?"
        return f"{term(begin)} {some} {term(end)}"

    def _object(self, schema: Mapping[str, Any]) -> str:
        """The term for an object: its properties in order, with commas between those given."""
        listed, needed = listed_properties(schema)
        others = schema.get("additionalProperties")
        properties = {**dict.fromkeys(needed, others), **listed}
        if not properties:
            if others is False:
                return f"{self._term('{')} {self._term('}')}"
            pair = f"{FREE_KEY} {self._term(':')} {self._rule(others)}"
            return self._listed("{", pair, "}")
        first = rest = self._term("}")
        in_order = sorted(properties, key=str.lower)
        for key in reversed(in_order):
            given = f"{self._term(f'{self._written_key(key)}:')} {self._rule(properties[key])}"
            name = self._new_name("o")
            skip_first, skip_rest = ("", "") if key in needed else (f" | {first}", f" | {rest}")
            self.rules.append(f"{name}f: {given} {rest}{skip_first}")
            self.rules.append(f"{name}r: {self._term(',')} {given} {rest}{skip_rest}")
            first, rest = f"{name}f", f"{name}r"
        return f"{self._term('{')} {first}"
