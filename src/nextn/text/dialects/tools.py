"""What a model is told about a tool."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nextn.errors import RequestError
from nextn.text.schemas import followed, merged, standing_alone

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
        """The JSON schema of one parameter; None if it has none. It may refer to the whole."""
        try:
            properties = merged(self.parameters, whole=self.parameters).get("properties")
        except LookupError:
            return None
        if not isinstance(properties, Mapping):
            return None
        return followed(properties.get(parameter), self.parameters)

    def properties(self) -> Iterator[tuple[str, Any, bool]]:
        """The parameters with a schema: name, schema and whether it is required.

        Each schema can be read alone, and may be as large as the whole.

        Raises:
            ToolSchemaError: the whole refers to nothing.
        """
        try:
            whole = merged(self.parameters, whole=self.parameters)
        except LookupError as error:
            raise ToolSchemaError(
                self.name, f"$ref {error} leads to nothing in the schema"
            ) from error
        properties, required = whole.get("properties"), whole.get("required")
        if isinstance(properties, Mapping):
            needed = required if isinstance(required, list) else []
            for key, value in properties.items():
                yield key, standing_alone(value, self.parameters), key in needed


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
