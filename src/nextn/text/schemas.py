"""JSON schemas and their parts: what they refer to, and how a part can be read alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
_CASES = ("anyOf", "oneOf")
_TIGHTER: Mapping[str, Callable[[float, float], float]] = {
    **dict.fromkeys(("minLength", "minItems", "minimum", "exclusiveMinimum"), max),
    **dict.fromkeys(("maxLength", "maxItems", "maximum", "exclusiveMaximum"), min),
}
"""Limits, and which of two counts."""


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

    Properties and required ones add up, of limits the tighter ones count, of types and enumerations
    what they have in common; where the schemas differ otherwise, the last one counts. What cannot
    be beside the same of another schema, such as a second anyOf, is left in allOf.

    Raises:
        LookupError: see `pointed_at`.
    """
    result: dict[str, Any] = {}
    more: list[Any] = []
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
            if key in _CASES and key in result and value != result[key]:
                more.append({key: value})
            elif key not in ("$ref", "allOf"):
                result[key] = _both(key, result[key], value) if key in result else value
    return {**result, "allOf": more} if more else result


def cases(schema: Any, *, whole: Any, most: int) -> list[dict[str, Any]] | None:
    """The schemas without anyOf, oneOf and allOf of which values fit one.

    Args:
        schema: with them.
        whole: what it may refer to.
        most: None is returned if there are more.

    Raises:
        LookupError: see `pointed_at`.
    """
    waiting = [merged(schema, whole=whole)]
    found: list[dict[str, Any]] = []
    for _ in range(2 * most):  # some lead back to themselves
        if not waiting:
            return found
        first = waiting.pop(0)
        key = cases_key(first)
        if not key:
            found.append(first)
            continue
        rest = {name: value for name, value in first.items() if name != key}
        if len(waiting) + len(found) + len(first[key]) > most:
            break
        following = [merged(rest, case, whole=whole) for case in first[key]]
        waiting[:0] = [each for each in following if not impossible(each)]
    return None


def cases_key(schema: Mapping[str, Any]) -> str:
    """Under which keyword a schema has cases, of which a value must fit one; "" if it has none."""
    return next((key for key in _CASES if isinstance(schema.get(key), list) and schema[key]), "")


def impossible(schema: Mapping[str, Any]) -> bool:
    """Whether no value can fit what `merged` made, since its types or enumerations differ."""
    return schema.get("type") == [] or schema.get("enum") == []


def _both(key: str, first: Any, second: Any) -> Any:
    """What a keyword says where two schemas have it."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {**first, **second}
    if isinstance(first, list) and isinstance(second, list):
        if key == "required":
            return [*first, *second]
        if key == "enum":
            return [value for value in first if value in second]
    if key == "type" and isinstance(first, str | list) and isinstance(second, str | list):
        return _common_types(first, second)
    tighter = _TIGHTER.get(key)
    if tighter is not None and isinstance(first, int | float) and isinstance(second, int | float):
        return tighter(first, second)
    return second


def _common_types(first: str | list[Any], second: str | list[Any]) -> list[Any]:
    ours, theirs = ([each] if isinstance(each, str) else each for each in (first, second))
    common = [each for each in ours if each in theirs or (each == "integer" and "number" in theirs)]
    whole = "integer" in theirs and "number" in ours and "integer" not in common
    return [*common, "integer"] if whole else common


def followed(part: Any, whole: Mapping[str, Any]) -> Any:
    """A part of a schema; if it is a reference, or its cases are, what they refer to."""
    found = _followed(part, whole)
    if isinstance(found, Mapping):
        for key in _CASES:
            few = found.get(key)
            if isinstance(few, list) and len(few) <= _MOST_CASES:
                found = {**found, key: [_followed(case, whole) for case in few]}
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
