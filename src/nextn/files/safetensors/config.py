"""Typed access to a JSON configuration, as strict as that to the metadata of GGUF files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from nextn.errors import FileFormatError, shown
from nextn.files.safetensors.json_files import JsonObject, JsonValue

_UNBOUNDED: Final = 1 << 62


class _Required:
    """Marks a key without a default."""


REQUIRED: Final = _Required()


class Config:
    """A JSON object; a key whose value is null counts as missing.

    The getters raise FileFormatError for a key that is missing without a default, has another type,
    or is out of bounds.

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

    def integer(
        self,
        key: str,
        default: int | _Required = REQUIRED,
        *,
        minimum: int = -_UNBOUNDED,
        maximum: int = _UNBOUNDED,
    ) -> int:
        """An integer from `minimum` to `maximum`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, f"expected an integer, got {_describe(value)}")
        if not minimum <= value <= maximum:
            self.fail(key, f"is {value}, but must be from {minimum} to {maximum}")
        return value

    def number(
        self, key: str, default: float | _Required = REQUIRED, *, minimum: float = -math.inf
    ) -> float:
        """A finite number of at least `minimum`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"expected a number, got {_describe(value)}")
        if abs(value) > _UNBOUNDED or not math.isfinite(value):
            self.fail(key, "is not a finite number of a reasonable size")
        if value < minimum:
            self.fail(key, f"is {value}, but must be at least {minimum}")
        return float(value)

    def boolean(self, key: str, default: bool | _Required = REQUIRED) -> bool:
        """A truth value."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"expected a truth value, got {_describe(value)}")
        return value

    def string(self, key: str, default: str | _Required = REQUIRED) -> str:
        """A string."""
        value = self._value(key, default)
        if not isinstance(value, str):
            self.fail(key, f"expected a string, got {_describe(value)}")
        return value

    def items(self, key: str) -> list[JsonValue]:
        """A list; empty if there is none."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.fail(key, f"expected a list, got {_describe(value)}")
        return value

    def strings(self, key: str) -> list[str]:
        """A list of strings; empty if there is none."""
        return [self._as_string(key, value) for value in self.items(key)]

    def section(self, key: str) -> Config:
        """An object; an empty one if there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            self.fail(key, f"expected an object, got {_describe(value)}")
        return Config(self.path, value or {}, f"{self._prefix}{key}.")

    def fail(self, key: str, reason: str) -> NoReturn:
        """Raise the error for a key.

        Raises:
            FileFormatError: always.
        """
        raise FileFormatError(self.path, self.field(key), reason)

    def _as_string(self, key: str, value: JsonValue) -> str:
        if not isinstance(value, str):
            self.fail(key, f"expected strings, got {_describe(value)}")
        return value

    def _value(self, key: str, default: JsonValue | _Required) -> JsonValue:
        value = self.values.get(key)
        if value is not None:
            return value
        if isinstance(default, _Required):
            self.fail(key, "is missing")
        return default


def _describe(value: JsonValue) -> str:
    match value:
        case str():
            return f"the string {shown(value)}"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case _:
            return shown(repr(value)) if len(repr(value)) > 40 else repr(value)
