"""Values between tags: which JSON they are, by the schema of the parameter."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from nextn.text.dialects.base import Term, as_json
from nextn.text.dialects.tools import with_settings

_TYPES: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "null",
    list: "array",
    dict: "object",
}
_PYTHON = {"True": ("boolean", "true"), "False": ("boolean", "false"), "None": ("null", "null")}


_MOST_LEVELS = 8
"""How deep `types_of` looks for types."""


def types_of(schema: Any, level: int = 0) -> set[str] | None:
    """The JSON types that a schema allows; None if it does not say."""
    if not isinstance(schema, Mapping) or level > _MOST_LEVELS:
        return None
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {each for each in kind if isinstance(each, str)}
    if "const" in schema:
        return {_TYPES.get(type(schema["const"]), "")}
    if isinstance(schema.get("enum"), list):
        return {_TYPES.get(type(value), "") for value in schema["enum"]}
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            found = [types_of(each, level + 1) for each in schema[key]]
            return None if None in found else set().union(*(each or () for each in found))
    return None


def is_of(value: Any, types: Any) -> bool:
    """Whether a value is of a type, or of one of several; whatever is no type allows all."""
    allowed = types_of({"type": types})
    kind = _TYPES.get(type(value), "")
    return allowed is None or kind in allowed or (kind == "integer" and "number" in allowed)


def string_only(schema: Any) -> bool:
    """Whether a schema allows strings and nothing else."""
    return types_of(schema) == {"string"}


def json_of(text: str, schema: Any, *, python: bool) -> str:
    """The JSON for a value that may be something else than a string.

    Args:
        text: as it was written.
        schema: of the parameter, if there is one.
        python: whether True, False and None stand for themselves.
    """
    types = types_of(schema)
    written = text.strip()
    try:
        value = json.loads(written, parse_constant=_refuse)
    except (ValueError, RecursionError):
        kind, spelled = _PYTHON.get(written, ("", ""))
        return spelled if python and kind and (types is None or kind in types) else as_json(text)
    kind = _TYPES[type(value)]
    fits = types is None or kind in types or (kind == "integer" and "number" in types)
    # What is no string, and may be one, is one unless it is something else that is allowed.
    return written if fits or (types is not None and "string" not in types) else as_json(text)


def written(value: Any, *, python: bool) -> str:
    """A value as models write it."""
    if isinstance(value, str):
        return value
    return str(value) if python and (value is None or isinstance(value, bool)) else as_json(value)


def value_rule(
    name: str, schema: Any, term: Term, head: str, tail: str, *, python: bool = False
) -> str:
    """Lark rules, the first of which is a value of a schema between two texts."""
    if python and types_of(schema) == {"boolean"}:
        return f'{name}: {term(head)} ("True" | "False" | "true" | "false") {term(tail)}'
    if not string_only(schema):
        value = f"%json {json.dumps(with_settings(schema))}"
        return f"{name}: {term(head)} {name}_v {term(tail)}\n{name}_v: {value}"
    allowed = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(allowed, list):
        values = " | ".join(term(value) for value in allowed if isinstance(value, str))
        return f"{name}: {term(head)} ({values}) {term(tail)}"
    return f"{name}: {term(head)} {name}_v\n{text_up_to(f'{name}_v', tail, term)}"


def text_up_to(name: str, end: str, term: Term, low: int = 0, high: int | None = None) -> str:
    """A Lark rule for `low` to `high` characters up to and with the first `end`; any by default."""
    mark = term(end)
    if high == 0:
        return f"{name}: {mark}"
    text = "/(?s:.*)/" if (low, high) == (0, None) else f"/(?s:.{{{low},{high or ''}}})/"
    # Control tokens are no text, so that nothing has to look for them in it.
    if mark != json.dumps(end, ensure_ascii=False):
        return f"{name}: {text} {mark}"
    if (low, high) == (0, None):
        return f"{name}[suffix={mark}]: {text}"
    # The first end may come too early; then it is no text, either.
    escaped = re.escape(end).replace("/", r"\/")
    rule = f"{name}[suffix={mark}]: {name.upper()}"
    return f"{rule}\n{name.upper()}: {text} & ~/(?s:.*){escaped}(?s:.*)/"


def _refuse(constant: str) -> None:
    raise ValueError(constant)
