"""Every text that a schema's constraint lets through is valid, as another library judges."""

from __future__ import annotations

import datetime
import json
import random
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nextn
from nextn.errors import RequestError
from nextn.grammar.compiler import GrammarCompiler

NAMES = st.sampled_from(["a", "b", "the name", "größe", 'x"y', "c/d"])
# Other control characters need an escape that is not written.
TEXTS = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_categories=["Cc"]), st.sampled_from("\b\f\n\r\t")
    ),
    max_size=6,
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-300, 300), TEXTS, st.sampled_from([2.5]))


def numbers(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda low, width, exclusive: {
            "type": kind,
            "exclusiveMinimum" if exclusive else "minimum": low,
            "maximum": low + width,
        },
        st.integers(-1000, 1000),
        st.integers(1, 200),
        st.booleans(),
    )


STRINGS = st.one_of(
    st.builds(
        lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more},
        st.integers(0, 4),
        st.integers(0, 9),
    ),
    st.sampled_from(
        [
            {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"},
            {"type": "string", "pattern": "^(ja|nein)$"},
            {"type": "string", "format": "uuid"},
            {"type": "string", "format": "ipv4"},
        ]
    ),
)
LEAVES = st.one_of(
    st.sampled_from([{"type": "boolean"}, {"type": "null"}]),
    numbers("integer"),
    STRINGS,
    st.builds(lambda values: {"enum": values}, st.lists(VALUES, min_size=1, max_size=4)),
    st.builds(lambda value: {"const": value}, VALUES),
    st.builds(lambda n: {"type": "integer", "multipleOf": n, "minimum": 0, "maximum": 99},
              st.integers(1, 7)),
)  # fmt: skip


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda properties, required: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in required],
            "additionalProperties": False,
        },
        st.dictionaries(NAMES, inner, max_size=4),
        st.sets(NAMES),
    )


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        objects(inner),
        st.builds(
            lambda items, low, more: {
                "type": "array",
                "items": items,
                "minItems": low,
                "maxItems": low + more,
            },
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=6,
)


def random_text(model: nextn.Model, compiler: GrammarCompiler, schema: Any, seed: int) -> str:
    """A text of allowed tokens, each as likely as the others; it ends where it can."""
    source = compiler.from_settings({"json_schema": schema})
    assert source is not None
    constraint = source.start()
    choose = random.Random(seed)
    text: list[int] = []
    while not constraint.may_end:
        mask = constraint.mask()
        assert mask is not None
        ids = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
        assert ids.size, f"no token is allowed after {model.tokenizer.decode(text)!r}"
        text.append(int(choose.choice(ids)))
        constraint.accept(text[-1])
        assert len(text) < 5000
    return model.tokenizer.decode(text, continues=True)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SCHEMAS, st.booleans(), st.integers(0, 2**32))
def test_random_texts_of_random_schemas_are_valid(
    model: nextn.Model,
    compiler: GrammarCompiler,
    schema: dict[str, Any],
    refers: bool,
    seed: int,
) -> None:
    if refers:
        schema = {"$defs": {"part": schema}, "type": "array", "items": {"$ref": "#/$defs/part"}}
        schema["maxItems"] = 3
    text = random_text(model, compiler, schema, seed)
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(json.loads(text))


def test_a_date_has_a_day_of_its_month(model: nextn.Model, compiler: GrammarCompiler) -> None:
    for seed in range(50):
        text = random_text(model, compiler, {"type": "string", "format": "date"}, seed)
        year, month, day = json.loads(text).split("-")
        # Of any leap year: whether this one is can no longer be told when the day comes.
        datetime.date(2000, int(month), int(day))
        assert len(year) == 4


def test_a_text_that_cannot_be_written_is_refused(compiler: GrammarCompiler) -> None:
    with pytest.raises(RequestError, match="json_schema: no text has this form"):
        compiler.from_settings({"json_schema": {"const": "\x1f"}})


VALID = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 0},
        "list": {"type": "array", "items": {"enum": ["x", "y"]}},
        "text": {"type": "string"},
    },
    "required": ["a"],
}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '{"a":1,"list":["x","y"],"text":"Grüße \\n \\"x\\" 😀"}',
        '{\n  "a": 12,\n  "list": [\n    "x"\n  ]\n}',
        '{"a": 0, "more": {"free": [1.5e3, null, "x"]}}',
    ],
)
def test_usual_ways_to_write_a_value_are_allowed(
    model: nextn.Model, compiler: GrammarCompiler, text: str
) -> None:
    source = compiler.from_settings({"json_schema": VALID})
    assert source is not None
    constraint = source.start()
    tokens = model.tokenizer.encode(text, add_special=False)
    assert constraint.allowed(tokens) == len(tokens)
    for token in tokens:
        constraint.accept(token)
    assert constraint.may_end


@pytest.mark.parametrize(
    "text",
    [
        '{"a": -1}',
        '{"list": []}',
        '{"a": 1, "list": ["z"]}',
        ' {"a": 1}',
        '{"a":  1}',  # white space without end begins like this
        '{"a": 1, "\\u0061": "x"}',  # the name of a property, past its schema
        '{"a": 1, "text": "\t"}',
    ],
)
def test_what_the_schema_does_not_allow_is_not_allowed(
    model: nextn.Model, compiler: GrammarCompiler, text: str
) -> None:
    source = compiler.from_settings({"json_schema": VALID})
    assert source is not None
    tokens = model.tokenizer.encode(text, add_special=False)
    assert source.start().allowed(tokens) < len(tokens)


def test_json_object_is_any_object(model: nextn.Model, compiler: GrammarCompiler) -> None:
    source = compiler.from_settings({"response_format": {"type": "json_object"}})
    assert source is not None
    for text, valid in (('{"a": [1, {}]}', True), ("[1]", False), ('"a"', False)):
        tokens = model.tokenizer.encode(text, add_special=False)
        assert (source.start().allowed(tokens) == len(tokens)) == valid


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"not": {"type": "null"}}, "not"),
        ({"if": {"type": "string"}}, "if"),
        ({"type": "array", "contains": {}}, "contains"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"propertyNames": {"pattern": "a"}}, "propertyNames"),
        ({"dependentRequired": {"a": ["b"]}}, "dependentRequired"),
        ({"unevaluatedProperties": False}, "unevaluatedProperties"),
        ({"properties": {"x": {"items": {"not": {}}}}}, "not"),
        ({"x-guidance": {"lenient": True}, "not": {}}, "not"),
        ({"type": "string", "format": "strange"}, "Unknown format: strange"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"type": "strange"}, "Invalid type: strange"),
        ({"type": "string", "minLength": -1}, "minLength"),
        ({"$ref": "http://example.com/x"}, "does not fetch"),
        ({"oneOf": [{"type": "string"}, {"minLength": 1}]}, "oneOf"),
        ({"enum": []}, "Unsatisfiable"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(
    compiler: GrammarCompiler, schema: dict[str, Any], keyword: str
) -> None:
    with pytest.raises(RequestError, match=keyword) as caught:
        compiler.from_settings({"json_schema": schema})
    assert str(caught.value).startswith("json_schema: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
