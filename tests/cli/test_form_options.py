"""`nextn run` with a form of the text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import RunCli

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["the first", "the second"]}, "size": {"type": "boolean"}},
    "required": ["kind", "size"],
    "additionalProperties": False,
}
GRAMMAR = 'root ::= "- " ("on" | "in") "\\n"'


def check_json(text: str) -> None:
    value: Any = json.loads(text)
    assert value.keys() == {"kind", "size"}


@pytest.mark.parametrize("name", ["-j", "--json-schema", "-jf", "--json-schema-file"])
def test_a_schema_is_given_as_json_or_in_a_file(
    cli: RunCli, tiny: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    for value in (json.dumps(SCHEMA), file):
        result = cli("run", tiny, "a box", name, value, "-s", 1, "--temp", 1)
        assert result.exit_code == 0, result.stderr
        check_json(result.stdout)


@pytest.mark.parametrize("name", ["--grammar", "--grammar-file"])
def test_a_grammar_is_given_as_text_or_in_a_file(
    cli: RunCli, tiny: Path, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "list.gbnf"
    file.write_text(GRAMMAR)
    for value in (GRAMMAR, file):
        result = cli("run", tiny, "a box", name, value, "-s", 1, "--temp", 1)
        assert re.fullmatch("- (on|in)\n", result.stdout)


def test_a_regular_expression_is_kept(cli: RunCli, tiny: Path) -> None:
    result = cli("run", tiny, "a box", "--regex", "(the|and) [0-9]{2}", "-s", 1, "--temp", 1)
    assert re.fullmatch("(the|and) [0-9]{2}\n", result.stdout)


def test_a_form_can_begin_behind_a_text(cli: RunCli, tiny: Path) -> None:
    options = ["--regex", "[ab]{3}", "--grammar-after", "e", "-n", 200, "-s", 1, "--temp", 1]
    text = cli("run", tiny, "a box", *options).stdout.removesuffix("\n")
    before, marker, _ = text.partition("e")
    assert before
    assert marker
    assert re.search("[ab]{3}$", text)


def test_tokens_that_the_grammar_forces_are_said_to_be_its_drafts(cli: RunCli, tiny: Path) -> None:
    options = ["-j", json.dumps(SCHEMA), "-s", 1, "--draft", 4, "--json"]
    records = [json.loads(line) for line in cli("run", tiny, "x", *options).stdout.splitlines()]
    assert "grammar" in {record.get("drafter") for record in records}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--json-schema", '{"not": {}}'], 'json_schema: the keyword "not" of JSON schema'),
        (["--json-schema", "{"], "json_schema is not JSON"),
        (["--json-schema", "missing.json"], "missing.json: No such file"),
        (["--grammar", "root ::= other"], "grammar: Rule 'other' not found"),
        (["--grammar", "missing.gbnf"], "missing.gbnf: No such file"),
        (["--regex", "("], "regex: "),
        (["--regex", "a", "-j", "{}"], "json_schema and regex: a text can have one form"),
        (["--grammar-after", "x"], "grammar_after: there is no form"),
    ],
)
def test_a_wrong_form_is_refused_before_the_model_is_looked_for(
    cli: RunCli, options: list[str], message: str
) -> None:
    result = cli("run", "no-such-model", "a box", *options)
    assert result.exit_code == 2
    assert message in result.stderr.replace("\n", " ")
