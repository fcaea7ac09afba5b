"""Which calls Gemma may write, by the schema of the tool."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nextn.errors import RequestError
from nextn.text.dialects import Tool
from nextn.text.dialects.find import FUNCTIONGEMMA, GEMMA4
from nextn.text.dialects.grammar import call_grammar
from nextn.text.dialects.tools import ToolSchemaError
from tests.text.dialects.parsing import parse
from tests.text.dialects.test_grammar import Grammars, grammars, tokenizer

__all__ = ["grammars", "tokenizer"]

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TREE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
    },
    "required": ["value"],
}


def tool_of(value: Any, **more: Any) -> Tool:
    """A tool with one parameter."""
    parameters = {"type": "object", "properties": {"a": value}, "required": ["a"], **more}
    return Tool("go", "", parameters)


REF: dict[str, Any] = {"$ref": "#/$defs/Point"}
NULL: dict[str, Any] = {"type": "null"}
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "items that refer": (
        {"type": "array", "items": REF},
        [[], [{"x": 1}], [{"x": 1}, {"x": -2}]],
        ["text", ["text"], [{}], [{"x": "1"}], {"x": 1}],
    ),
    "cases that refer": (
        {"anyOf": [REF, NULL]},
        [{"x": 1}, None],
        ["text", 3, {}, {"y": 1}],
    ),
    "items with cases": (
        {"type": "array", "items": {"anyOf": [REF, {"type": "string"}]}},
        [["text", {"x": 1}], []],
        [[1], [None], "text"],
    ),
    "a tree": (
        {"$ref": "#/$defs/Tree"},
        [{"value": 1}, {"children": [{"value": 2}, {"children": [], "value": 3}], "value": 1}],
        [{"children": [{"children": []}], "value": 1}, {"children": ["text"], "value": 1}],
    ),
    "the root": (
        {"anyOf": [{"$ref": "#"}, {"type": "integer"}]},
        [1, {"a": 1}, {"a": {"a": {"a": 3}}}],
        ["text", {"a": "text"}, {}],
    ),
    "all of": (
        {"allOf": [REF, {"properties": {"y": {"type": "boolean"}}, "required": ["y"]}]},
        [{"x": 1, "y": True}],
        [{"x": 1}, {"y": True}, {"x": 1, "y": 2}],
    ),
    "all of one": ({"allOf": [REF], "description": "where"}, [{"x": 1}], ["text", {}]),
    "all of itself": (
        {"$ref": "#/$defs/More"},
        [{"x": 1}, {"more": {"more": {"x": 2}, "x": 1}, "x": 1}],
        [{"more": {}, "x": 1}, {"more": 3, "x": 1}],
    ),
    "cases beside properties": (
        {
            "type": "object",
            "properties": {"id": {"type": "integer"}, "name": {"type": "string"}},
            "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
        },
        [{"id": 1}, {"name": "b"}, {"id": 1, "name": "b"}],
        [{}, "text", {"id": "1"}],
    ),
    "cases of two keywords": (
        {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
            "anyOf": [{"required": ["x"]}, {"properties": {"z": NULL}, "required": ["z"]}],
            "oneOf": [{"required": ["y"]}, {"properties": {"t": NULL}, "required": ["t"]}],
        },
        [{"x": 1, "y": 2}, {"t": None, "x": 1}, {"y": 2, "z": None}, {"t": None, "z": None}],
        [{"x": 1}, {"y": 2}, {"t": None}, {"z": None}, {"t": None, "y": 2}],
    ),
    "cases within all of": (
        {
            "allOf": [
                {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}]},
                {"anyOf": [{"type": "number"}, NULL, {"type": "boolean"}]},
            ]
        },
        [1, True],
        ["text", None, 1.5],
    ),
    "enumerations of which all hold": (
        {"allOf": [{"enum": ["b", "c", 3]}, {"enum": ["c", "d", 3]}], "type": ["string", "null"]},
        ["c"],
        ["b", "d", 3],
    ),
    "short text": ({"type": "string", "maxLength": 3}, ["", "é\n<"], ["text"]),
    "long text": ({"type": "string", "minLength": 3}, ["abc", "text" * 9], ["", "ab"]),
    "text of a length": (
        {"type": "string", "minLength": 2, "maxLength": 3.0},
        ["ab", "abc"],
        ["", "a", "abcd"],
    ),
    "no text": ({"type": "string", "maxLength": 0}, [""], ["a"]),
    "lengths of cases": (
        {"minLength": 2, "anyOf": [{"type": "string", "maxLength": 3}, {"type": "integer"}]},
        ["ab", "abc", 1],
        ["a", "abcd"],
    ),
    "few items": ({"type": "array", "items": NULL, "maxItems": 2}, [[], [None] * 2], [[None] * 3]),
    "many items": (
        {"type": "array", "items": NULL, "minItems": 2},
        [[None] * 2, [None] * 5],
        [[], [None]],
    ),
    "a number of items": (
        {"type": "array", "items": NULL, "minItems": 1, "maxItems": 2},
        [[None], [None] * 2],
        [[], [None] * 3],
    ),
    "no items": ({"type": "array", "maxItems": 0}, [[]], [["a"]]),
    "limits of numbers": (
        {"type": ["integer", "null"], "minimum": -2, "exclusiveMaximum": 13},
        [-2, 0, 12, None],
        [-3, 13, 1.5],
    ),
    "a reference to a property": (
        {"type": "object", "properties": {"b": {"$ref": "#/$defs/Point/properties/x"}}},
        [{"b": 1}, {}],
        [{"b": "text"}],
    ),
    "a free object": ({"type": "object"}, [{}, {"b": "c"}, {"b": "c", "d-2": "e"}], ["text"]),
    "a free object of numbers": (
        {"type": "object", "additionalProperties": {"type": "number"}},
        [{}, {"b": 1.5}],
        [{"b": "c"}],
    ),
    "an empty object": (
        {"type": "object", "additionalProperties": False},
        [{}],
        [{"b": "c"}],
    ),
    "deep": (
        {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": {
            "type": "array", "items": {"type": "array", "items": {"type": "array", "items": {
                "type": "array", "items": {"type": "array", "items": {"type": "array", "items": {
                    "type": "integer"}}}}}}}}}},
        [[[[[[[[[[1]]]]]]]]], []],
        [[[[[[[[["text"]]]]]]]], [[[[[[[[["text"]]]]]]]]]],
    ),
}  # fmt: skip
DEFINITIONS = {
    "Point": POINT,
    "Tree": TREE,
    "More": {"allOf": [REF, {"properties": {"more": {"$ref": "#/$defs/More"}}}]},
}


@pytest.mark.parametrize("dialect", [GEMMA4, FUNCTIONGEMMA], ids=lambda each: each.name)
@pytest.mark.parametrize("name", CASES)
def test_values_fit_what_their_schema_refers_to(
    grammars: Grammars, dialect: Any, name: str
) -> None:
    schema, good, bad = CASES[name]
    tool = tool_of(schema, **{"$defs": DEFINITIONS})
    for value in good:
        text = dialect.calls.write([("go", {"a": value})])
        assert grammars.accepts(grammars.start(dialect, tool), text), value
        assert parse(dialect, text, tools=[tool]).values == [("go", {"a": value})]
    for value in bad:
        text = dialect.calls.write([("go", {"a": value})])
        assert not grammars.accepts(grammars.start(dialect, tool), text), value


def test_keys_that_are_no_words_can_be_read_again(grammars: Grammars) -> None:
    tool = tool_of({"type": "object", "properties": {"b c:{": {"type": "integer"}}})
    text = GEMMA4.calls.write([("go", {"a": {"b c:{": 1}})])
    assert parse(GEMMA4, text, tools=[tool]).values == [("go", {"a": {"b c:{": 1}})]
    assert grammars.accepts(grammars.start(GEMMA4, tool), text)


def test_definitions_that_refer_to_others_twice_have_one_rule_each(grammars: Grammars) -> None:
    definitions: dict[str, Any] = {
        f"d{i}": {
            "type": "object",
            "properties": {side: {"$ref": f"#/$defs/d{i + 1}"} for side in ("left", "right")},
        }
        for i in range(300)
    }
    definitions["d300"] = {"type": "integer"}
    tool = tool_of({"$ref": "#/$defs/d299"}, **{"$defs": definitions})
    text = GEMMA4.calls.write([("go", {"a": {"left": 1, "right": 2}})])
    assert grammars.accepts(grammars.start(GEMMA4, tool), text)
    first = tool_of({"$ref": "#/$defs/d0"}, **{"$defs": definitions})
    assert len(call_grammar(GEMMA4, [first], str, several=False, opened=False)) < 100_000


def test_definitions_that_ask_for_others_twice_take_no_time(grammars: Grammars) -> None:
    definitions: dict[str, Any] = {
        f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{(i + 2) % 300}"}]}
        for i in range(300)
    }
    definitions["d300"] = {"type": "integer"}
    tool = tool_of({"$ref": "#/$defs/d0"}, **{"$defs": definitions})
    started = time.process_time()
    text = GEMMA4.calls.write([("go", {"a": 1})])
    assert grammars.accepts(grammars.start(GEMMA4, tool), text)
    assert time.process_time() - started < 5.0


WIDE = {
    "type": "object",
    "properties": {f"p{i}": {"type": "array", "items": {"type": "integer"}} for i in range(3000)},
}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/nowhere"},
        {"$ref": "other.json"},
        {"$ref": "#/$defs/loop"},
        {"allOf": [{"$ref": "#/$defs/nowhere"}, {"title": "x"}]},
        {"$ref": "#/$defs/cases"},
        {"enum": []},
        {"allOf": [{"type": "string"}, {"type": "null"}]},
        {"anyOf": [{"type": "string"}], "oneOf": [{"type": "null"}]},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "maxLength": "2"},
        {"type": "array", "minItems": -1},
        {"type": "array", "items": NULL, "maxItems": 1.5},
        {"type": "string", "minLength": 10**9},
        WIDE,
    ],
    ids=[
        "nowhere",
        "elsewhere",
        "loop",
        "all of nowhere",
        "cases of itself",
        "no value",
        "two types",
        "two cases",
        "no length",
        "text as length",
        "negative length",
        "half an item",
        "endless",
        "wide",
    ],
)
def test_what_has_no_grammar_is_refused(schema: Any) -> None:
    definitions = {
        "loop": {"$ref": "#/$defs/loop"},
        "cases": {"anyOf": [{"allOf": [{"$ref": "#/$defs/cases"}, {"title": "x"}]}]},
    }
    tool = tool_of(schema, **{"$defs": definitions})
    started = time.process_time()
    with pytest.raises(ToolSchemaError) as caught:
        call_grammar(GEMMA4, [Tool("other"), tool], str, several=False, opened=False)
    assert time.process_time() - started < 5.0
    assert caught.value.tool == "go"


def test_the_largest_grammar_compiles_in_time(grammars: Grammars) -> None:
    tools = [
        Tool(
            f"t{i}",
            "",
            {"type": "object", "properties": {f"p{k}": {"type": "integer"} for k in range(50)}},
        )
        for i in range(49)
    ]
    started = time.process_time()
    grammars.start(GEMMA4, *tools)
    assert time.process_time() - started < 5.0
    with pytest.raises(RequestError):
        grammars.start(GEMMA4, *tools, *tools)
