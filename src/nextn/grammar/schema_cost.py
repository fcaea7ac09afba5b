"""Whether a JSON schema can be compiled in a reasonable time, told before it is tried.

Where one text has to match several patterns, llguidance looks for a text that matches them all. The
time of each step of this search grows with the product of their branches, and nothing limits it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from nextn.errors import RequestError
from nextn.text.schemas import pointed_at

MAX_SCHEMA_DEPTH = 64
"""Most JSON values inside each other in a schema."""

MAX_BRANCHES = 1_000_000
"""Largest product of the branches of patterns that one text has to match. Of thousands of random
patterns and some made to be slow, none within it took more than a fifth of a second; some that are
thirty times beyond took more than a second."""

_MOST_REFERENCES = 32
"""References inside each other that are followed."""

_FORMAT_BRANCHES = 32
_DATA = frozenset(("const", "enum", "default", "examples", "$defs", "definitions", "$ref"))
_CASES = frozenset(("anyOf", "oneOf", "properties", "prefixItems"))


def check_schema(field: str, schema: Any) -> None:
    """Refuse schemas that take for ever: deep ones, and patterns that are too much together.

    Raises:
        RequestError: it is such a schema; its message begins with `field`.
    """
    all_patterns = _check_depth(field, schema)
    # Most schemas have few patterns, so that it does not matter which of them meet.
    if _total(all_patterns) <= math.log(MAX_BRANCHES):
        return
    try:
        together = _Meeting(schema).branches(schema)
    except (_UnclearError, RecursionError):
        together = _total(all_patterns)
    if together > math.log(MAX_BRANCHES):
        raise RequestError(
            f"{field}: {len(all_patterns)} different patterns or formats, of which one text may "
            "have to match several that are too complex together; use fewer or simpler ones beside "
            "allOf, anyOf, oneOf and $ref"
        )


def _check_depth(field: str, schema: Any) -> set[tuple[str, str]]:
    """Refuse deep schemas; all patterns and formats of others."""
    level = [schema]
    patterns: set[tuple[str, str]] = set()
    for _ in range(MAX_SCHEMA_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                inner += value.values()
                patterns.update(_own(value))
            elif isinstance(value, list | tuple):
                inner += value
        level = inner
        if not level:
            return patterns
    raise RequestError(f"{field}: more than {MAX_SCHEMA_DEPTH} levels; make it flatter")


def _own(schema: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """The pattern and the format of a schema itself."""
    return ((key, schema[key]) for key in ("pattern", "format") if isinstance(schema.get(key), str))


def _total(patterns: Iterable[tuple[str, str]]) -> float:
    """The logarithm of the product of their branches."""
    return sum(
        math.log(_FORMAT_BRANCHES if key == "format" else 1 + sum(map(text.count, "|*+?{")))
        for key, text in patterns
    )


class _UnclearError(Exception):
    """Which patterns meet cannot be told."""


class _Meeting:
    """Finds the patterns that may meet, all over one schema.

    Args:
        whole: the schema.
    """

    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self._known: dict[str, float | None] = {}

    def branches(self, schema: Any) -> float:
        """An upper bound of `_total` of the patterns that meet in one place of a schema.

        What is said of the same place stands side by side or in allOf; of cases, one holds.

        Raises:
            _UnclearError: a reference leads back to itself, or elsewhere.
        """
        if isinstance(schema, list | tuple):
            return sum(map(self.branches, schema))
        if not isinstance(schema, Mapping):
            return 0.0
        self._check_base(schema)
        found = _total(_own(schema))
        for key, value in schema.items():
            if key == "$ref":
                found += self._referred(value)
            elif key in _CASES:
                cases = value.values() if isinstance(value, Mapping) else value
                if isinstance(cases, Iterable) and not isinstance(cases, str):
                    found += max(map(self.branches, cases), default=0.0)
            elif key not in _DATA:
                found += self.branches(value)
        return found

    def _check_base(self, schema: Any) -> None:
        """Within a part with a name of its own, references start there."""
        if (
            schema is not self._whole
            and isinstance(schema, Mapping)
            and {"$id", "id"} & schema.keys()
        ):
            raise _UnclearError

    def _referred(self, reference: Any) -> float:
        if not isinstance(reference, str):
            return 0.0
        if reference not in self._known:
            if sum(each is None for each in self._known.values()) >= _MOST_REFERENCES:
                raise _UnclearError
            self._known[reference] = None
            self._known[reference] = self.branches(self._target(reference))
        found = self._known[reference]
        if found is None:
            raise _UnclearError
        return found

    def _target(self, reference: str) -> Any:
        try:
            path = pointed_at(self._whole, reference)
        except LookupError as error:
            raise _UnclearError from error
        for place in path:
            self._check_base(place)
        return path[-1]
