"""Dialects whose marks are control tokens, which have no text unless a parser needs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nextn.server.state import ServerSettings
from nextn.text.dialects import find_dialect
from tests.server.conftest import RunningServer, spec
from tests.support.tiny_gguf import write_tiny_model
from tests.support.tiny_tokenizers import CONTROL, byte_level_bpe
from tests.text.dialects.templates import TEMPLATES

NAMES = ["gemma4", "mistral", "deepseek-v3.1", "kimi-k2"]
TOOL = {
    "type": "function",
    "function": {
        "name": "set_light",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "box"]}},
            "required": ["on", "room"],
        },
    },
}


def write_model(path: Path, template: str) -> None:
    """A model in whose vocabulary the marks of a template are control tokens."""
    metadata = byte_level_bpe(320, pre="smollm", chat_template=template)
    tokens = list(metadata["tokenizer.ggml.tokens"])
    types = list(metadata["tokenizer.ggml.token_type"])
    for place, mark in enumerate(sorted(find_dialect(template).marks(tools=True)), 1):
        tokens[-place], types[-place] = mark, CONTROL
    changed = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    write_tiny_model(path, "llama", context_length=2048, chat_template=template, metadata=changed)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("marks")
    for name in NAMES:
        write_model(folder / f"{name}.gguf", TEMPLATES[name])
    specs = [spec(folder / f"{name}.gguf", name, context=2048) for name in NAMES]
    with RunningServer(specs, ServerSettings(), most_loaded=len(specs)) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mtp", ["auto", "off"])
def test_a_call_that_must_be_made_is_found(server: RunningServer, name: str, mtp: str) -> None:
    body: dict[str, Any] = {
        "model": name,
        "messages": [{"role": "user", "content": "Light, please."}],
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": "set_light"}},
        "temperature": 1.0,
        "seed": 3,
        "mtp": mtp,
    }
    choice = server.post("/v1/chat/completions", body).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert set(json.loads(call["function"]["arguments"])) == {"on", "room"}


NODE = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "next": {"$ref": "#/$defs/Node"}},
    "required": ["on"],
}
TREE = {"type": "object", "properties": {"node": {"$ref": "#/$defs/Node"}}, "required": ["node"]}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_may_have_definitions_that_refer_to_themselves(
    server: RunningServer, name: str
) -> None:
    function = {"name": "walk", "parameters": {**TREE, "$defs": {"Node": NODE}}}
    body: dict[str, Any] = {
        "model": name,
        "messages": [{"role": "user", "content": "Walk, please."}],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 1.0,
        "seed": 3,
    }
    choice = server.post("/v1/chat/completions", body).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    node = json.loads(call["function"]["arguments"])["node"]
    while node is not None:
        assert type(node.pop("on")) is bool
        node, rest = node.pop("next", None), node
        assert not rest


@pytest.mark.parametrize("choice", ["required", "bad"])
def test_a_schema_without_a_grammar_is_named(server: RunningServer, choice: str) -> None:
    bad = {"type": "object", "properties": {"a": {"$ref": "#/$defs/nowhere"}}}
    named = {"type": "function", "function": {"name": choice}}
    body: dict[str, Any] = {
        "model": "gemma4",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "x"}],
        "tools": [TOOL, {"type": "function", "function": {"name": "bad", "parameters": bad}}],
        "tool_choice": choice if choice == "required" else named,
    }
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[1].function.parameters"
    body["tools"] = [{"name": "bad", "input_schema": bad}]
    body["tool_choice"] = (
        {"type": "any"} if choice == "required" else {"type": "tool", "name": choice}
    )
    answer = server.post("/v1/messages", body)
    assert answer.status_code == 400
    assert "tools[0].input_schema" in answer.json()["error"]["message"]


def test_marks_in_messages_are_plain_text(server: RunningServer) -> None:
    mark = "[TOOL_CALLS]"
    body = {"model": "mistral", "messages": [{"role": "user", "content": mark}], "tools": [TOOL]}
    prompt = server.post("/apply-template", body).json()["prompt"]
    assert mark in prompt
    body = {"model": "mistral", "content": mark}
    (token,) = server.post("/tokenize", body).json()["tokens"]
    written = server.post(
        "/v1/chat/completions",
        {
            "model": "mistral",
            "messages": [{"role": "user", "content": mark}],
            "max_tokens": 1,
            "logit_bias": {str(token): 1000},
        },
    ).json()
    # Without tools, nobody reads the mark, and it has no text.
    assert written["choices"][0]["message"]["content"] == ""
