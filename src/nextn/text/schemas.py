"""JSON schemas and their parts: what they refer to, and how a part can be read alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from nextn.errors import shown

_MOST_REFERENCES = 16
"""References that lead to each other are followed so often."""

_MOST_CASES = 32
"""Cases that are replaced by what they refer to, which may be large."""

_ANNOTATIONS = frozenset(
    ("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly")
)
_DATA = frozenset(("const", "enum", "default", "examples"))


def pointed_at(whole: Any, reference: str) -> list[Any]:
    """What a reference leads past, from the whole to its target, which is the last one.

    Args:
        whole: the schema that has the reference.
        reference: "#" and a JSON pointer (RFC 6901).

    Raises:
        LookupError: with the reference: there is nothing, or it is no such reference.
    """
    head, *steps = unquote(reference).split("/")
    found = [whole]
    for step in steps:
        step = step.replace("~1", "/").replace("~0", "~")
        place = found[-1]
        if (
            isinstance(place, list)
            and step.isdecimal()
            and len(step) < 8
            and int(step) < len(place)
        ):
            found.append(place[int(step)])
        elif isinstance(place, Mapping) and step in place:
            found.append(place[step])
        else:
            head = ""
    if head != "#":
        raise LookupError(shown(reference))
    return found


def merged(*schemas: Any, whole: Any) -> dict[str, Any]:
    """One schema for values that fit all: with what they refer to, and all that allOf says of them.

    Properties and required ones add up; where the schemas differ otherwise, the last one counts.

    Raises:
        LookupError: see `pointed_at`.
    """
    result: dict[str, Any] = {}
    waiting = [*schemas]
    seen: list[Any] = []  # kept, so that no other schema gets its identity
    identities: set[int] = set()
    while waiting:
        schema = waiting.pop(0)
        if not isinstance(schema, Mapping) or id(schema) in identities:
            continue
        seen.append(schema)
        identities.add(id(schema))
        parts = schema.get("allOf")
        waiting[:0] = parts if isinstance(parts, list) else []
        if isinstance(schema.get("$ref"), str):
            waiting.insert(0, pointed_at(whole, schema["$ref"])[-1])
        for key, value in schema.items():
            before = result.get(key)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                value = {**before, **value}
            elif key == "required" and isinstance(before, list) and isinstance(value, list):
                value = [*before, *value]
            if key not in ("$ref", "allOf"):
                result[key] = value
    return result


def followed(part: Any, whole: Mapping[str, Any]) -> Any:
    """A part of a schema; if it is a reference, or its cases are, what they refer to."""
    found = _followed(part, whole)
    if isinstance(found, Mapping):
        for key in ("anyOf", "oneOf"):
            cases = found.get(key)
            if isinstance(cases, list) and len(cases) <= _MOST_CASES:
                found = {**found, key: [_followed(case, whole) for case in cases]}
    return found


def standing_alone(part: Any, whole: Mapping[str, Any]) -> Any:
    """The same, so that it can be read without the whole; it may be as large."""
    found = followed(part, whole)
    return {**_moved(found), "$defs": {_WHOLE: _moved(whole)}} if _refers(found) else found


_WHOLE = "whole"


def _target(schema: Mapping[str, Any], whole: Any) -> Any:
    """What a schema refers to; None if it does not."""
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return None
    try:
        return pointed_at(whole, reference)[-1]
    except LookupError:
        return None


def _followed(schema: Any, whole: Any) -> Any:
    """What a schema stands for that says nothing itself."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping):
            break
        others = schema.keys() - _ANNOTATIONS
        parts = schema.get("allOf")
        if others == {"allOf"} and isinstance(parts, list) and len(parts) == 1:
            schema = parts[0]
        elif others == {"$ref"} and (target := _target(schema, whole)) is not None:
            schema = target
        else:
            break
    return schema


def _refers(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return isinstance(schema.get("$ref"), str) or any(map(_refers, schema.values()))
    return isinstance(schema, list) and any(map(_refers, schema))


def _moved(schema: Any) -> Any:
    """A copy of a schema for a place in which the whole is a definition."""
    if isinstance(schema, list):
        return [_moved(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    copy = {key: value if key in _DATA else _moved(value) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        copy["$ref"] = f"#/$defs/{_WHOLE}{reference[1:]}"
    return copy
