"""What a request asks of the form of its text, as settings and in one piece."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from nextn.errors import RequestError, shown
from nextn.grammar.schema_cost import check_schema

GRAMMAR_SETTINGS = ("response_format", "json_schema", "grammar", "regex", "grammar_after")
"""Settings that `specification_from_settings` reads."""

MAX_LENGTH = {"json_schema": 256 << 10, "regex": 16 << 10, "lark": 64 << 10, "gbnf": 16 << 10}
"""Longest text of each kind, in characters."""

MAX_MARKER = 256
"""Longest `grammar_after`, in characters."""

MAX_INTERSECTIONS = 8
"""Most times that a grammar may ask for two terminals at once."""

Kind: TypeAlias = Literal["json_schema", "regex", "lark", "gbnf"]

_GBNF_RULE = re.compile(r"^\s*[\w-]+\s*::=", re.MULTILINE)
_INLINE_SCHEMA = re.compile(r"%json\s*")
_ANY_OBJECT = '{"type":"object"}'


@dataclass(frozen=True, slots=True)
class Specification:
    """The form of a text. Equal ones give equal constraints.

    Attributes:
        kind: "json_schema", "regex", "lark" or "gbnf".
        text: the schema as JSON, or the expression or grammar.
        field: the setting that it came from, for messages.
        after: a marker behind which it begins; None for a text that has the form from the start.
    """

    kind: Kind
    text: str
    field: str
    after: str | None = None


def specification_from_settings(settings: Mapping[str, Any]) -> Specification | None:
    """Read the form of a text from the settings of a request; others are ignored.

    Args:
        settings: at most one of
            `json_schema`: a JSON schema, as a dict or as JSON;
            `regex`: a regular expression that the whole text matches (syntax of Rust's `regex`);
            `grammar`: a grammar in llama.cpp's GBNF or in llguidance's dialect of Lark;
            `response_format`: OpenAI's `{"type": "json_schema", "json_schema": {"schema": ...}}`,
            `{"type": "json_object"}` or `{"type": "text"}`.
            And `grammar_after`: a text, such as "</think>", behind which the form begins.

    Returns:
        None if none is asked for.

    Raises:
        RequestError: names the setting and what is wrong with it.
    """
    given = {name: settings.get(name) for name in GRAMMAR_SETTINGS}
    after = given.pop("grammar_after")
    kinds = [name for name, value in given.items() if value is not None]
    if len(kinds) > 1:
        raise RequestError(f"{' and '.join(kinds)}: a text can have one form; give one of them")
    found = _READERS[kinds[0]](given[kinds[0]]) if kinds else None
    if after is not None:
        if not isinstance(after, str) or not 0 < len(after) <= MAX_MARKER:
            raise RequestError(
                f"grammar_after is {_short(after)}; allowed: text of 1 to {MAX_MARKER} characters"
            )
        if found is None:
            raise RequestError(
                "grammar_after: there is no form that could begin behind it; give json_schema, "
                "grammar, regex or response_format, too"
            )
        found = Specification(found.kind, found.text, found.field, after)
    return found


def _json_schema(value: Any, field: str = "json_schema") -> Specification:
    if isinstance(value, str):
        _check_length(field, value, "json_schema")
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{field} is not JSON: {str(error) or 'too deep'}") from error
    if value is True:
        value = {}
    if not isinstance(value, Mapping):
        raise RequestError(f"{field} is {_short(value)}; allowed: a JSON schema, as an object")
    check_schema(field, value)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise RequestError(f"{field} is no JSON: {error}") from error
    _check_length(field, text, "json_schema")
    return Specification("json_schema", text, field)


def _check_lark(text: str) -> None:
    """Refuse grammars that take for ever, also by a schema inside: see `check_schema`."""
    if text.lstrip().startswith("{"):
        raise RequestError("grammar is JSON, not GBNF or Lark; give a JSON schema as json_schema")
    if text.count("&") > MAX_INTERSECTIONS:
        raise RequestError(
            f"grammar: {text.count('&')} times '&'; up to {MAX_INTERSECTIONS} are allowed"
        )
    for match in _INLINE_SCHEMA.finditer(text):
        try:
            schema, _ = json.JSONDecoder().raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            reason = str(error) or "too deep"
            raise RequestError(f"grammar: what follows %json is not JSON: {reason}") from error
        check_schema("grammar: %json", schema)


def _regex(value: Any) -> Specification:
    _check_text("regex", value, "regex")
    return Specification("regex", value, "regex")


def _grammar(value: Any) -> Specification:
    kind: Kind = "gbnf" if isinstance(value, str) and _GBNF_RULE.search(value) else "lark"
    _check_text("grammar", value, kind)
    if kind == "lark":
        _check_lark(value)
    return Specification(kind, value, "grammar")


def _response_format(value: Any) -> Specification | None:
    field = "response_format"
    if not isinstance(value, Mapping):
        raise RequestError(
            f'{field} is {_short(value)}; allowed: such as {{"type": "json_object"}}'
        )
    kind = value.get("type")
    if kind == "text":
        return None
    # llama.cpp takes a schema beside either type, OpenAI one level deeper.
    if kind == "json_object":
        if value.get("schema") is not None:
            return _json_schema(value["schema"], f"{field}.schema")
        return Specification("json_schema", _ANY_OBJECT, field)
    if kind == "json_schema":
        nested = value.get("json_schema")
        if isinstance(nested, Mapping) and nested.get("schema") is not None:
            return _json_schema(nested["schema"], f"{field}.json_schema.schema")
        if value.get("schema") is not None:
            return _json_schema(value["schema"], f"{field}.schema")
        raise RequestError(f"{field}.json_schema.schema: missing; give a JSON schema")
    raise RequestError(
        f"{field}.type is {_short(kind)}; allowed: 'text', 'json_object' or 'json_schema'"
    )


_READERS = {
    "response_format": _response_format,
    "json_schema": _json_schema,
    "grammar": _grammar,
    "regex": _regex,
}


def _check_text(field: str, value: Any, kind: Kind) -> None:
    if not isinstance(value, str):
        raise RequestError(f"{field} is {_short(value)}; allowed: text")
    if not value.strip():
        raise RequestError(f"{field} is empty; leave it out, or give one")
    _check_length(field, value, kind)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{field}: character {error.start} is half a character") from error


def _check_length(field: str, text: str, kind: Kind) -> None:
    if len(text) > MAX_LENGTH[kind]:
        raise RequestError(f"{field} has {len(text)} characters; allowed: up to {MAX_LENGTH[kind]}")


def _short(value: Any) -> str:
    return shown(value) if isinstance(value, str) else shown(repr(value)).strip("'\"")
