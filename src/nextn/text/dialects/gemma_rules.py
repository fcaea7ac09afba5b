"""Grammar rules for values as Gemma writes them, from JSON schemas."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from nextn.errors import shown
from nextn.text.dialects.base import Term
from nextn.text.dialects.parameter_values import text_up_to, types_of
from nextn.text.dialects.tools import FREE_KEY, Tool, ToolSchemaError, listed_properties
from nextn.text.schemas import merged, pointed_at

MAX_RULES = 5000
"""Most rules for the values of all tools."""

_MOST_REFERENCES = 16
"""References that lead to each other are followed so often."""

_SCALARS = {
    "integer": "/-?(0|[1-9][0-9]*)/",
    "number": r"/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/",
    "boolean": '("true" | "false")',
    "null": '"null"',
}
_SHAPES = ("type", "properties", "items", "additionalProperties", "required", "allOf")
"""Keywords that say something about a value beside its cases."""


class ValueRules:
    """Makes one rule per schema, and one per definition that schemas refer to.

    Types, enumerations, cases, properties, items and the values of free objects are kept to; what
    else a schema may say is not.

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

        What stands beside a reference is not read.
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
            if not values:
                raise self._error("enum is empty, so that no value is allowed")
            return " | ".join(self._term(self._written(value)) for value in values)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                others = {name: schema[name] for name in _SHAPES if name in schema}
                cases = [self._merged(others, case) if others else case for case in schema[key]]
                return " | ".join(dict.fromkeys(map(self._rule, cases)))
        kinds = sorted(types_of(schema) or {"string"})
        return " | ".join(self._kind(kind, schema) for kind in kinds)

    def _merged(self, *schemas: Any) -> dict[str, Any]:
        """One schema for values that fit all."""
        try:
            return merged(*schemas, whole=self._whole)
        except LookupError as error:
            raise self._leads_to_nothing(error) from error

    def _leads_to_nothing(self, error: LookupError) -> ToolSchemaError:
        return self._error(f"$ref {error} leads to nothing in the schema")

    def _kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        """The term for values of one type."""
        if kind == "object":
            return self._object(schema)
        if kind == "array":
            return self._listed("[", self._rule(schema.get("items")), "]")
        if kind in _SCALARS:
            return _SCALARS[kind]
        return f"{self._term(self._quote)} quoted"

    def _listed(self, begin: str, item: str, end: str) -> str:
        """The term for any number of items between brackets."""
        term = self._term
        return f"{term(begin)} ({item} ({term(',')} {item})*)? {term(end)}"

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
