"""Typed access to a JSON configuration, as strict as that to the metadata of GGUF files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nextn.files.safetensors.json_files import JsonObject, JsonValue
from nextn.files.typed_values import TypedValues, described


class Config(TypedValues):
    """A JSON object; a key whose value is null counts as missing.

    Attributes:
        path: the file, for errors.
        values: what it holds.
    """

    def __init__(self, path: Path, values: JsonObject, prefix: str = "") -> None:
        """View an object.

        Args:
            path: the file.
            values: the object.
            prefix: where in the file it stands, such as "text_config.".
        """
        self.path = path
        self.values = values
        self._prefix = prefix

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def field(self, key: str) -> str:
        """The full name of a key, for errors."""
        return f"{self._prefix}{key}"

    def value(self, key: str) -> JsonValue:
        """The value as it stands; None if there is none."""
        return self.values.get(key)

    def items(self, key: str) -> list[JsonValue]:
        """A list; empty if there is none."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(key, f"expected a list, got {described(value)}")
        return value

    def strings(self, key: str) -> list[str]:
        """A list of strings; empty if there is none."""
        return [self._as_string(key, value) for value in self.items(key)]

    def section(self, key: str) -> Config:
        """An object; an empty one if there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.fail(key, f"expected an object, got {described(value)}")
        return Config(self.path, value or {}, f"{self._prefix}{key}.")

    def _as_string(self, key: str, value: JsonValue) -> str:
        if not isinstance(value, str):
            self.fail(key, f"expected strings, got {described(value)}")
        return value
