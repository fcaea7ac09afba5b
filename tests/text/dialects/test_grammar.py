from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.errors import RequestError
from nextn.files import open_checkpoint
from nextn.grammar.compiler import GrammarCompiler
from nextn.grammar.specification import Specification
from nextn.sampling.constraint import Constraint
from nextn.text.dialects import Dialect, Tool
from nextn.text.dialects.find import DIALECTS, HERMES, QWEN3_CODER
from nextn.text.dialects.gemma import GemmaCalls
from nextn.text.dialects.grammar import call_grammar, terms
from nextn.text.dialects.parameter_calls import ParameterCalls
from nextn.text.dialects.tools import ToolSchemaError
from nextn.text.tokenizer import Tokenizer, load_tokenizer
from tests.support.tiny_gguf import write_tiny_model
from tests.text.dialects.parsing import NOW, WEATHER, parse
from tests.text.dialects.test_properties import EACH, REASONING

ARGUMENTS = st.fixed_dictionaries(
    {"city": st.sampled_from(["Rome", "", 'a "b" \\', "Zürich\n"])},
    optional={
        "days": st.integers(-999, 999),
        "detailed": st.booleans(),
        "hours": st.lists(st.integers(0, 24) | st.just(1.5), max_size=3),
        "options": st.just({}),
    },
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokenizer]:
    path = tmp_path_factory.mktemp("grammar") / "tiny.gguf"
    write_tiny_model(path, "llama")
    with open_checkpoint(path) as checkpoint:
        yield load_tokenizer(checkpoint.tokenizer)


class Grammars:
    """Compiles the grammars of a dialect, and says what they accept."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiler = GrammarCompiler(tokenizer, tokenizer.vocab_size)

    def start(self, dialect: Dialect, *tools: Tool, **options: Any) -> Constraint:
        settings = {"several": True, "opened": False, **options}
        text = call_grammar(dialect, tools, terms(self._tokenizer), **settings)
        return self._compiler.compile(Specification("lark", text, "tools")).start()

    def accepts(self, constraint: Constraint, text: str) -> bool:
        for token in self._tokenizer.encode(text, add_special=False, continues=True):
            if constraint.allowed([token]) != 1:
                return False
            constraint.accept(token)
        return constraint.may_end


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer)


@EACH
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_what_a_dialect_writes_is_allowed(
    grammars: Grammars, dialect: Dialect, data: st.DataObject
) -> None:
    arguments = data.draw(ARGUMENTS)
    in_order = {key: arguments[key] for key in WEATHER.parameters["properties"] if key in arguments}
    calls: list[tuple[str, Any]] = [("get_weather", in_order)]
    if dialect.name not in ("harmony", "kimi-k2"):  # one call per turn; numbers as in the grammar
        calls += data.draw(st.sampled_from([[], [("now", {})]]))
    text = dialect.calls.write(calls)
    assert parse(dialect, text).values == [tuple(call) for call in calls]
    assert grammars.accepts(grammars.start(dialect, WEATHER, NOW), text)


@EACH
def test_other_tools_other_types_and_text_are_not_allowed(
    grammars: Grammars, dialect: Dialect
) -> None:
    def allowed(text: str) -> bool:
        return grammars.accepts(grammars.start(dialect, WEATHER), text)

    write = dialect.calls.write
    assert allowed(write([("get_weather", {"city": "Rome", "days": 3})]))
    assert not allowed(write([("now", {})]))
    assert not allowed(write([("get_weather", {"days": 3})]))
    assert not allowed(write([("get_weather", {"city": "Rome", "days": [3]})]))
    assert not allowed(write([("get_weather", {"city": "Rome", "mood": "good"})]))
    assert not allowed("It is sunny.")


@pytest.mark.parametrize("dialect", [HERMES, QWEN3_CODER], ids=lambda each: each.name)
def test_several_calls_only_if_allowed(grammars: Grammars, dialect: Dialect) -> None:
    text = dialect.calls.write([("now", {}), ("now", {})])
    assert grammars.accepts(grammars.start(dialect, NOW), text)
    assert not grammars.accepts(grammars.start(dialect, NOW, several=False), text)


def test_reasoning_comes_before_a_call(grammars: Grammars) -> None:
    dialect = next(each for each in REASONING if each.name == "hermes")
    call = dialect.calls.write([("now", {})])
    assert grammars.accepts(grammars.start(dialect, NOW), f"<think>\na <b> c\n</think>\n\n{call}")
    assert grammars.accepts(grammars.start(dialect, NOW, opened=True), f"a\n</think>\n\n{call}")
    assert not grammars.accepts(grammars.start(dialect, NOW, opened=True), call)


def test_an_answer_in_a_form_may_be_given_instead(grammars: Grammars) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    for text, expected in [
        ('{"a": 1}', True),
        (HERMES.calls.write([("now", {})]), True),
        ('{"a": "1"}', False),
    ]:
        constraint = grammars.start(HERMES, NOW, answer=schema)
        assert grammars.accepts(constraint, text) == expected, text


def test_marks_that_are_control_tokens_are_these_tokens(tokenizer: Tokenizer) -> None:
    token = max(tokenizer.special)
    mark = tokenizer.token_text(token)
    assert terms(tokenizer)(f'a"{mark}') == f"{json.dumps('a' + chr(34))} <[{token}]>"


def test_schemas_may_refer_to_definitions(grammars: Grammars) -> None:
    point = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    tool = Tool(
        "go",
        "",
        {
            "type": "object",
            "properties": {
                "to": {"$ref": "#/$defs/Point"},
                "how": {"$ref": "#/$defs/How"},
            },
            "required": ["to", "how"],
            "$defs": {"Point": point, "How": {"type": "string"}},
        },
    )
    for dialect in DIALECTS:
        good = dialect.calls.write([("go", {"how": "fast", "to": {"x": 1}})])
        if dialect.name not in ("gemma4", "functiongemma"):  # these sort
            good = dialect.calls.write([("go", {"to": {"x": 1}, "how": "fast"})])
        assert grammars.accepts(grammars.start(dialect, tool), good)
        bad = good.replace("x", "y")
        assert not grammars.accepts(grammars.start(dialect, tool), bad)
        assert parse(dialect, good, tools=[tool]).values == [
            ("go", {"to": {"x": 1}, "how": "fast"})
        ]


POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
REFERENCES: dict[str, tuple[dict[str, Any], Any, Any]] = {
    "another property": (
        {
            "properties": {
                "a": {"type": "array", "items": POINT},
                "b": {"$ref": "#/properties/a/items"},
            },
            "required": ["a", "b"],
        },
        {"a": [{"x": 1}], "b": {"x": 2}},
        {"a": [{"x": 1}], "b": {"x": "2"}},
    ),
    "the root as a case": (
        {
            "properties": {"c": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}, "n": {"const": 1}},
            "required": ["c", "n"],
        },
        {"c": {"c": None, "n": 1}, "n": 1},
        {"c": {"c": None, "n": 2}, "n": 1},
    ),
    "the root in a list": (
        {"properties": {"c": {"type": "array", "items": {"$ref": "#"}}}, "required": ["c"]},
        {"c": [{"c": []}, {"c": []}]},
        {"c": [3]},
    ),
    "a root that refers": (
        {"$ref": "#/$defs/Point", "$defs": {"Point": POINT}},
        {"x": 1},
        {"x": [1]},
    ),
    "a root of two": (
        {
            "allOf": [{"$ref": "#/$defs/Point"}, {"$ref": "#/$defs/More"}],
            "$defs": {
                "Point": POINT,
                "More": {"properties": {"y": {"type": "integer"}}, "required": ["y"]},
            },
        },
        {"x": 1, "y": 2},
        {"x": 1},
    ),
    "all of beside properties": (
        {
            "properties": {"a": {"type": "integer"}},
            "allOf": [{"properties": {"b": {"type": "integer"}}, "required": ["b"]}],
        },
        {"a": 1, "b": 2},
        {"a": 1},
    ),
    "a string by a reference": (
        {
            "properties": {"a": {"allOf": [{"$ref": "#/$defs/Code"}], "description": "d"}},
            "required": ["a"],
            "$defs": {"Code": {"type": "string", "enum": ["1", "b"]}},
        },
        {"a": "1"},
        {"a": "2"},
    ),
}


@EACH
@pytest.mark.parametrize("name", REFERENCES)
def test_arguments_fit_what_a_schema_refers_to(
    grammars: Grammars, dialect: Dialect, name: str
) -> None:
    parameters, good, bad = REFERENCES[name]
    tool = Tool("go", "", {"type": "object", **parameters})
    text = dialect.calls.write([("go", good)])
    assert grammars.accepts(grammars.start(dialect, tool), text)
    assert parse(dialect, text, tools=[tool]).values == [("go", good)]
    assert not grammars.accepts(grammars.start(dialect, tool), dialect.calls.write([("go", bad)]))


EITHER = {
    "anyOf": [
        {"properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"properties": {"b": {"type": "integer"}}, "required": ["b"]},
    ]
}
UNLISTED: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
    "no schema": ({}, [{}], [{"a": "1"}]),
    "an empty list": ({"properties": {}}, [{}], [{"a": "1"}]),
    "no list": (
        {"type": "object"},
        [{}, {"a": "x"}, {"b-c": [1, {"d": None}], "a": "1 < 2"}],
        [],
    ),
    "others of a type": (
        {"additionalProperties": {"type": "integer"}},
        [{}, {"a": 1, "b": -2}],
        [{"a": "x"}, {"a": 1, "b": [2]}],
    ),
    "other strings": (
        {"properties": {}, "additionalProperties": {"type": "string"}},
        [{}, {"a": "1"}, {"a": "x"}],
        [],
    ),
    "no others": ({"additionalProperties": False}, [{}], [{"a": "1"}]),
    "one that must be there": ({"required": ["a"]}, [{"a": [1]}], [{}]),
    "cases": (
        EITHER,
        [{"a": "1"}, {"b": 1}],
        [{}, {"a": "1", "b": 1}, {"b": [1]}],
    ),
    "cases of what must be there": (
        {
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}],
        [{}],
    ),
}


@EACH
@pytest.mark.parametrize("name", UNLISTED)
def test_a_schema_without_a_list_of_parameters_is_kept_to(
    grammars: Grammars, dialect: Dialect, name: str
) -> None:
    parameters, good, bad = UNLISTED[name]
    tool = Tool("go", "", parameters)
    for arguments in good:
        text = dialect.calls.write([("go", arguments)])
        if isinstance(dialect.calls, GemmaCalls) and name in ("no list", "one that must be there"):
            continue  # in its values without a type, strings are allowed only
        assert grammars.accepts(grammars.start(dialect, tool), text), arguments
        assert parse(dialect, text, tools=[tool]).values == [("go", arguments)]
    for arguments in bad:
        if isinstance(dialect.calls, ParameterCalls) or not {"a", "b"} <= arguments.keys():
            text = dialect.calls.write([("go", arguments)])
            assert not grammars.accepts(grammars.start(dialect, tool), text), arguments


@pytest.mark.parametrize(
    "parameters",
    [
        {"anyOf": [{"$ref": "#"}]},
        {"allOf": [{"anyOf": [{"title": "x"}] * 8}, {"anyOf": [{"title": "y"}] * 9}]},
        {"additionalProperties": False, "required": ["a"]},
    ],
    ids=["itself", "many cases", "nothing fits"],
)
def test_parameters_without_an_end_or_a_way_are_refused(
    grammars: Grammars, parameters: dict[str, Any]
) -> None:
    started = time.process_time()
    with pytest.raises(ToolSchemaError) as caught:
        grammars.start(QWEN3_CODER, NOW, Tool("go", "", parameters))
    assert time.process_time() - started < 5.0
    assert caught.value.tool == "go"


@EACH
def test_large_definitions_that_many_parameters_refer_to_take_no_time(
    grammars: Grammars, dialect: Dialect
) -> None:
    large = {"anyOf": [{"$ref": "#/$defs/Code"}, {"enum": ["x" * 100] * 1000}]}
    cases = {"anyOf": [{"$ref": "#/$defs/Large"}] * 1000}
    parameters = {
        "type": "object",
        "properties": {f"p{i}": cases if i % 2 else {"$ref": "#/$defs/Large"} for i in range(300)},
        "$defs": {"Code": {"type": "string"}, "Large": large},
    }
    started = time.process_time()
    with suppress(RequestError):
        grammars.start(dialect, Tool("go", "", parameters))
    assert time.process_time() - started < 5.0


@EACH
def test_a_case_that_refers_to_a_string_is_one(dialect: Dialect) -> None:
    code = {"anyOf": [{"$ref": "#/$defs/Code"}, {"type": "null"}]}
    parameters = {
        "type": "object",
        "properties": {"a": code},
        "$defs": {"Code": {"type": "string"}},
    }
    tool = Tool("go", "", parameters)
    for value in ("123", None):
        text = dialect.calls.write([("go", {"a": value})])
        assert parse(dialect, text, tools=[tool]).values == [("go", {"a": value})]


@EACH
@pytest.mark.parametrize(
    "properties",
    [
        {"a": True},
        {"a": None},
        {"a": {"type": 3}},
        {"a": {"enum": []}},
        {"a": {"enum": [1, "x", None, {"b": []}]}},
        {"a": {"const": {"b": [1]}}},
        {"a": {"$ref": "#/nowhere"}},
        {'"\n</x>\\\u0001é': {"type": "string"}},
        [1],
        3,
    ],
    ids=repr,
)
def test_odd_schemas_are_taken_or_refused(
    grammars: Grammars, dialect: Dialect, properties: Any
) -> None:
    tool = Tool("odd", "", {"type": "object", "properties": properties, "required": ["a"]})
    # Whatever else it raises would be a defect.
    with suppress(RequestError):
        assert grammars.start(dialect, tool).mask().any()
