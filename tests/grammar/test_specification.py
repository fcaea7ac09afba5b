"""What settings mean, and how wrong ones are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from nextn.errors import RequestError
from nextn.grammar import Specification, specification_from_settings

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
OPENAI = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"json_schema": SCHEMA}, "json_schema", json.dumps(SCHEMA)),
        ({"json_schema": json.dumps(SCHEMA, indent=2)}, "json_schema", json.dumps(SCHEMA)),
        ({"json_schema": "{}"}, "json_schema", "{}"),
        ({"json_schema": True}, "json_schema", "{}"),
        ({"response_format": OPENAI}, "json_schema", json.dumps(SCHEMA)),
        (
            {"response_format": {"type": "json_schema", "schema": SCHEMA}},
            "json_schema",
            json.dumps(SCHEMA),
        ),
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            "json_schema",
            json.dumps(SCHEMA),
        ),
        ({"response_format": {"type": "json_object"}}, "json_schema", '{"type":"object"}'),
        ({"regex": "a+"}, "regex", "a+"),
        ({"grammar": 'start: "a"'}, "lark", 'start: "a"'),
        ({"grammar": '# c\nroot ::= "a"'}, "gbnf", '# c\nroot ::= "a"'),
        ({"grammar": 'start: "::="'}, "lark", 'start: "::="'),
    ],
)
def test_each_setting_gives_its_form(settings: dict[str, Any], kind: str, text: str) -> None:
    found = specification_from_settings({**settings, "temperature": 1.0})
    assert found is not None
    assert (found.kind, found.text, found.after) == (kind, text, None)


def test_nothing_asked_is_no_form() -> None:
    assert specification_from_settings({}) is None
    assert specification_from_settings({"regex": None, "grammar_after": None}) is None
    assert specification_from_settings({"response_format": {"type": "text"}}) is None


def test_a_form_can_begin_behind_a_marker() -> None:
    found = specification_from_settings({"regex": "a", "grammar_after": "</think>"})
    assert found == Specification("regex", "a", "regex", "</think>")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regex": "a", "json_schema": {}}, "json_schema and regex: a text can have one form"),
        ({"regex": 3}, "regex is 3; allowed: text"),
        ({"regex": ""}, "regex is empty"),
        ({"grammar": " \n"}, "grammar is empty"),
        ({"grammar": {"a": 1}}, "grammar is {'a': 1}; allowed: text"),
        ({"grammar": '{"grammars": []}'}, "grammar is JSON"),
        ({"grammar": "start: %json {"}, "what follows %json is not JSON"),
        ({"regex": "\ud800"}, "regex: character 0 is half a character"),
        ({"json_schema": "{"}, "json_schema is not JSON"),
        ({"json_schema": "3"}, "json_schema is 3; allowed: a JSON schema"),
        ({"json_schema": False}, "json_schema is False; allowed: a JSON schema"),
        ({"json_schema": {"enum": [float("nan")]}}, "json_schema is no JSON"),
        ({"json_schema": {"enum": ["\ud800"]}}, "json_schema is no JSON"),
        ({"json_schema": {"enum": [{1, 2}]}}, "json_schema is no JSON"),
        ({"response_format": "json"}, "response_format is 'json'"),
        ({"response_format": {"type": "xml"}}, "response_format.type is 'xml'"),
        ({"response_format": {}}, "response_format.type is None"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema: missing",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}},
            "response_format.json_schema.schema is 5",
        ),
        ({"grammar_after": "x"}, "grammar_after: there is no form"),
        ({"regex": "a", "grammar_after": ""}, "grammar_after is ''"),
        ({"regex": "a", "grammar_after": 5}, "grammar_after is 5"),
        ({"regex": "a", "grammar_after": "x" * 999}, "grammar_after is 'xx"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        specification_from_settings(settings)
    assert message in str(caught.value)


def test_a_form_is_read_without_what_compiles_it() -> None:
    """llguidance takes its time to import; only who needs it pays."""
    code = (
        "import sys, nextn.model, nextn.cli.run, nextn.grammar as grammar\n"
        "grammar.specification_from_settings({'regex': 'a'})\n"
        "sys.exit('llguidance' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
