"""Typed access to values that a file names by keys: the metadata of GGUF files, and JSON."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np

from nextn.errors import FileFormatError, shown
from nextn.files.gguf.values import LazyStrings

UNBOUNDED: Final = 1 << 62
"""The default bound of integers; no number of a file is beyond it."""


_LONGEST: Final = 40


class Required:
    """Marks a key without a default."""


REQUIRED: Final = Required()


class TypedValues(ABC):
    """Getters that check.

    They raise FileFormatError for a key that is missing without a default, has another type, or is
    out of bounds.

    Attributes:
        path: the file, for errors.
    """

    path: Path

    @abstractmethod
    def field(self, key: str) -> str:
        """The full name of a key, for errors."""

    @abstractmethod
    def value(self, key: str) -> Any:
        """The value as it stands; None if there is none."""

    def integer(
        self,
        key: str,
        default: int | Required = REQUIRED,
        *,
        minimum: int = -UNBOUNDED,
        maximum: int = UNBOUNDED,
    ) -> int:
        """An integer from `minimum` to `maximum`."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, f"expected an integer, got {described(value)}")
        self._check_range(key, value, minimum, maximum)
        return value

    def number(
        self,
        key: str,
        default: float | Required = REQUIRED,
        *,
        minimum: float = -math.inf,
        maximum: float = math.inf,
    ) -> float:
        """A finite number from `minimum` to `maximum`."""
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"expected a number, got {described(value)}")
        # An integer in JSON may have any number of digits.
        if not abs(value) <= UNBOUNDED:
            self.fail(key, f"is {_short(value)}, but must be finite and of a reasonable size")
        self._check_range(key, value, minimum, maximum)
        return float(value)

    def boolean(self, key: str, default: bool | Required = REQUIRED) -> bool:
        """A truth value."""
        value = self._required(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"expected a truth value, got {described(value)}")
        return value

    def string(self, key: str, default: str | Required = REQUIRED) -> str:
        """A string."""
        value = self._required(key, default)
        if not isinstance(value, str):
            self.fail(key, f"expected a string, got {described(value)}")
        return value

    def fail(self, key: str, reason: str) -> NoReturn:
        """Raise the error for a key.

        Raises:
            FileFormatError: always.
        """
        raise FileFormatError(self.path, self.field(key), reason)

    def _required(self, key: str, default: object) -> Any:
        value = self.value(key)
        if value is not None:
            return value
        if isinstance(default, Required):
            self.fail(key, "is missing")
        return default

    def _check_range(self, key: str, value: float, minimum: float, maximum: float) -> None:
        if minimum <= value <= maximum:
            return
        bounds = []
        if minimum > -UNBOUNDED:
            bounds.append(f"at least {minimum}")
        if maximum < UNBOUNDED:
            bounds.append(f"at most {maximum}")
        self.fail(key, f"is {_short(value)}, but must be {' and '.join(bounds) or 'smaller'}")


def described(value: object) -> str:
    """A value in a few words, for errors."""
    match value:
        case LazyStrings():
            return f"an array of {len(value)} strings"
        case np.ndarray():
            return f"an array of {value.size} values of type {value.dtype}"
        case str():
            return f"the string {shown(value)}"
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case _:
            return f"{type(value).__name__} {_short(value)}"


def _short(value: object) -> str:
    text = repr(value)
    return shown(text) if len(text) > _LONGEST else text
