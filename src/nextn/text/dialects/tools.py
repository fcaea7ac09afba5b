"""What a model is told about a tool."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nextn.errors import RequestError

NAME = re.compile(r"[A-Za-z0-9_.:/-]*")
"""Characters of a tool's name, as models write it."""

# Models that are unsure write white space without end.
_WHITE_SPACE = r"(?: |\n[ \t]{0,20})?"

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

    def schema_of(self, parameter: str) -> Any:
        """The JSON schema of one parameter; None if it has none."""
        return next((schema for name, schema, _ in self.properties() if name == parameter), None)

    def properties(self) -> list[tuple[str, Any, bool]]:
        """The parameters with a schema: name, schema and whether it is required.

        Each schema can be read alone: it has the definitions of the whole, and is what it refers
        to.
        """
        properties = self.parameters.get("properties")
        required = self.parameters.get("required")
        if not isinstance(properties, Mapping):
            return []
        needed = required if isinstance(required, list) else []
        return [
            (key, _alone(value, self.parameters), key in needed)
            for key, value in properties.items()
        ]


class ToolSchemaError(RequestError):
    """The schema of a tool cannot become a grammar.

    Attributes:
        tool: its name.
    """

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(reason)
        self.tool = tool


def _alone(schema: Any, whole: Mapping[str, Any]) -> Any:
    """A part of a schema with the definitions of the whole."""
    definitions = {key: whole[key] for key in _DEFINITIONS if key in whole}
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            break
        key, _, name = schema["$ref"].removeprefix("#/").partition("/")
        found = definitions.get(key, {})
        if not isinstance(found, Mapping) or name not in found:
            break
        schema = found[name]
    return {**definitions, **schema} if isinstance(schema, Mapping) else schema


_DEFINITIONS = ("$defs", "definitions")
_MOST_REFERENCES = 8
"""References that lead to each other are followed so often."""


def is_name(text: str) -> bool:
    """Whether a text can be the name of a tool."""
    return 0 < len(text) <= MAX_NAME and NAME.fullmatch(text) is not None


def with_settings(schema: Any) -> dict[str, Any]:
    """A JSON schema with settings for llguidance: little white space, nothing ignored."""
    settings = {"whitespace_pattern": _WHITE_SPACE, "lenient": False}
    return {**(schema if isinstance(schema, Mapping) else {}), "x-guidance": settings}
