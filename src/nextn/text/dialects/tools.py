"""What a model is told about a tool."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nextn.errors import RequestError
from nextn.text.schemas import cases, followed, standing_alone

NAME = re.compile(r"[A-Za-z0-9_.:/-]*")
"""Characters of a tool's name, as models write it."""

MAX_FORMS = 32
"""Most cases of the parameters of a tool."""

FREE_KEY = r"/[A-Za-z0-9_.\-]{1,64}/"
"""The term for the name of a parameter that no schema has a name for."""

# Models that are unsure write white space without end.
_WHITE_SPACE = r"(?: |\n[ \t]{0,20})?"

_MORE_PROPERTIES = frozenset(("$ref", "allOf", "anyOf", "oneOf", "patternProperties"))
"""Keywords that may allow further properties."""

MAX_NAME = 128
"""Longest name of a tool, in characters."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call.

    Attributes:
        name: what it is called.
        description: what it does.
        parameters: the JSON schema of its arguments, an object.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_function(self) -> dict[str, Any]:
        """The record that chat templates expect."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": self.parameters or {"type": "object", "properties": {}},
            },
        }

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of the arguments.

        One that lists properties and does not speak of others allows any; models make no good use
        of that, so that it is closed here. A tool without a schema has no parameters.
        """
        names = self.parameters.get("properties", None if self.parameters else {})
        required = self.parameters.get("required")
        closable = (
            isinstance(names, Mapping)
            and (not isinstance(required, list) or all(each in names for each in required))
            and not _MORE_PROPERTIES & self.parameters.keys()
        )
        closed = {"additionalProperties": False} if closable else {}
        return {"type": "object", **closed, **self.parameters}

    def schema_of(self, parameter: str) -> Any:
        """The JSON schema of one parameter; None if it has none. It may refer to the whole."""
        try:
            forms = cases(self.parameters, whole=self.parameters, most=MAX_FORMS) or ()
        except LookupError:
            return None
        found: list[Any] = []
        for form in forms:
            names, _ = listed_properties(form)
            schema = names.get(parameter, form.get("additionalProperties"))
            if schema not in found and (parameter in names or isinstance(schema, Mapping)):
                found.append(schema)
        several = {"anyOf": found} if found else None
        return followed(found[0] if len(found) == 1 else several, self.parameters)

    def forms(self) -> Iterator[Form]:
        """The sets of parameters, of which a call has one. There is at least one.

        Raises:
            ToolSchemaError: there are none or too many, or the whole refers to nothing.
        """
        whole = self.schema
        try:
            found = cases(whole, whole=whole, most=MAX_FORMS)
        except LookupError as error:
            raise ToolSchemaError(
                self.name, f"$ref {error} leads to nothing in the schema"
            ) from error
        if found is None:
            raise ToolSchemaError(self.name, f"anyOf and oneOf have more than {MAX_FORMS} cases")
        possible = 0
        for schema in found:
            listed, needed = listed_properties(schema)
            others = schema.get("additionalProperties", "properties" not in schema)
            if others is not False or set(needed) <= listed.keys():
                possible += 1
                names = {**listed, **{key: others for key in needed if key not in listed}}
                yield Form(names, frozenset(needed), False if names else others, whole)
        if not possible:
            raise ToolSchemaError(self.name, "no arguments fit; change type or required")


def listed_properties(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """The properties of a schema by name, and the names of those that are required."""
    names, required = schema.get("properties"), schema.get("required")
    needed = required if isinstance(required, list) else ()
    return (
        names if isinstance(names, Mapping) else {},
        [each for each in needed if isinstance(each, str)],
    )


@dataclass(frozen=True, slots=True)
class Form:
    """A set of parameters.

    Attributes:
        names: the schemas of those that have names.
        required: the names of those that must be there.
        free: the schema of others, which may have any names; False if there are none. There are
            none beside those with names, though the tool may allow them.
        whole: what the schemas may refer to.
    """

    names: Mapping[str, Any]
    required: frozenset[str]
    free: Any
    whole: Mapping[str, Any]

    def parameters(self) -> Iterator[tuple[str, Any, bool]]:
        """The parameters that have names: name, schema and whether it is required.

        Each schema can be read alone, and may be as large as the whole.
        """
        for key, schema in self.names.items():
            yield key, standing_alone(schema, self.whole), key in self.required

    def others(self) -> Any:
        """`free`, so that it can be read alone."""
        return standing_alone(self.free, self.whole)


class ToolSchemaError(RequestError):
    """The schema of a tool cannot become a grammar.

    Attributes:
        tool: its name.
    """

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(reason)
        self.tool = tool


def is_name(text: str) -> bool:
    """Whether a text can be the name of a tool."""
    return 0 < len(text) <= MAX_NAME and NAME.fullmatch(text) is not None


def with_settings(schema: Any) -> dict[str, Any]:
    """A JSON schema with settings for llguidance: little white space, nothing ignored."""
    settings = {"whitespace_pattern": _WHITE_SPACE, "lenient": False}
    return {**(schema if isinstance(schema, Mapping) else {}), "x-guidance": settings}
