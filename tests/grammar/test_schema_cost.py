"""Which schemas are refused since they would take too long to compile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from nextn.errors import RequestError
from nextn.grammar import check_schema
from nextn.grammar.compiler import GrammarCompiler
from nextn.grammar.specification import Specification

HARD = [f".*a.{{{k}}}b.*" for k in range(20)]
SLOW = (
    r"a*(?:a?(?:.*|é[^b]{1,3}.*[^a].+|.b.*)*(?:a*|\d|b)+[^b]{0,3}|(?:a?[^a])a*).+b|(?:a(?:b[^b]"
    r"{1,3}\w.*a*|\dc)+|a|(?:.{100}\w|c.|c(?:ab)+a?a?é)?.){1,9}[ab]"
)
EASY = [f"^{letter}[0-9]+$" for letter in "abcdefghijklmnopqrstuvwxyz"]


def of(patterns: list[str]) -> list[dict[str, Any]]:
    return [{"type": "string", "pattern": pattern} for pattern in patterns]


def cases_of_cases(patterns: list[str]) -> dict[str, Any]:
    """Each has to be matched together with those inside it, without allOf."""
    schema: dict[str, Any] = {"type": "string"}
    for pattern in patterns:
        schema = {"type": "string", "pattern": pattern, "anyOf": [schema, {"const": "x"}]}
    return schema


def references(patterns: list[str]) -> dict[str, Any]:
    """Each refers to the next one."""
    definitions: dict[str, Any] = {
        f"d{i}": {"pattern": pattern, "$ref": f"#/$defs/d{i + 1}"}
        for i, pattern in enumerate(patterns)
    }
    definitions[f"d{len(patterns)}"] = {"type": "string"}
    return {"$ref": "#/$defs/d0", "$defs": definitions}


def same_property(patterns: list[str]) -> dict[str, Any]:
    objects = [
        {"type": "object", "properties": {"x": {"type": "string", "pattern": pattern}}}
        for pattern in patterns
    ]
    return {"allOf": objects}


def renamed(patterns: list[str]) -> dict[str, Any]:
    """References that look harmless from the root."""
    inner = {"$id": "http://x/", "$defs": {"d": {"allOf": of(patterns)}}, "$ref": "#/$defs/d"}
    return {"$ref": "#/$defs/inner", "$defs": {"inner": inner, "d": {"type": "string"}}}


MEETING: dict[str, Callable[[list[str]], dict[str, Any]]] = {
    "all of": lambda patterns: {"allOf": of(patterns)},
    "cases of cases": cases_of_cases,
    "cases beside each other": lambda patterns: {
        "allOf": [{"anyOf": of(patterns)} for _ in patterns]
    },
    "references": references,
    "same property": same_property,
    "renamed": renamed,
    "deep": lambda patterns: {"items": {"properties": {"a": {"allOf": of(patterns)}}}},
}


@pytest.mark.parametrize("name", MEETING)
@pytest.mark.parametrize(
    "patterns", [HARD, [f"{SLOW}.{{{k}}}c.*" for k in range(8)]], ids=["many", "eight"]
)
def test_patterns_that_are_too_much_together_are_refused(name: str, patterns: list[str]) -> None:
    started = time.process_time()
    with pytest.raises(RequestError, match=f"^schema: {len(patterns)} different patterns"):
        check_schema("schema", MEETING[name](patterns))
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("kind", ["json_schema", "lark"])
@pytest.mark.parametrize("name", MEETING)
@pytest.mark.parametrize("count", [3, 5, 7])
def test_what_is_not_refused_compiles_in_time(
    compiler: GrammarCompiler, name: str, count: int, kind: Any
) -> None:
    for patterns in (HARD[:count], EASY[:count], [".*[a-m]x{2}.*|.*[k-z]y", *EASY[:count]]):
        schema = MEETING[name](patterns)
        check_schema("schema", schema)
        text = json.dumps(schema)
        started = time.process_time()
        form = text if kind == "json_schema" else f"start: %json {text}"
        with suppress(RequestError):  # no text matches them all, or it cannot be told
            compiler.compile(Specification(kind, form, "x"))
        assert time.process_time() - started < 2.0


def test_patterns_that_do_not_meet_are_not_counted_together() -> None:
    schema = {
        "type": "object",
        "properties": {
            **{f"p{i}": each for i, each in enumerate(of(EASY))},
            "any": {"anyOf": of(EASY)},
            "both": {"allOf": of(EASY[:3])},
            "list": {"type": "array", "items": {"$ref": "#/$defs/item"}},
            "pattern": {"type": "string", "pattern": HARD[0]},
        },
        "$defs": {"item": {"type": "string", "pattern": HARD[1]}, "unused": {"allOf": of(HARD)}},
    }
    check_schema("schema", schema)


@pytest.mark.parametrize(
    "reference", ["#/$defs/a", "#", "other.json", "#/$defs/nowhere", "#anchor", 3]
)
def test_where_references_are_unclear_all_patterns_count(reference: Any) -> None:
    schema: dict[str, Any] = {
        "$defs": {"a": {"properties": {"b": {"$ref": reference}, "c": {}}}},
        "$ref": "#/$defs/a",
        "anyOf": of(HARD),
    }
    if reference == 3:
        check_schema("schema", schema)
    else:
        with pytest.raises(RequestError):
            check_schema("schema", schema)
        schema["anyOf"] = of(HARD[:9])
        check_schema("schema", schema)


def test_many_references_take_no_time() -> None:
    definitions: dict[str, Any] = {
        f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 3} for i in range(5000)
    }
    definitions["d5000"] = {"anyOf": of(HARD)}
    started = time.process_time()
    with pytest.raises(RequestError):
        check_schema("schema", {"$ref": "#/$defs/d0", "$defs": definitions})
    assert time.process_time() - started < 2.0
