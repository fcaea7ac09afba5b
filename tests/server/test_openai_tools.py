from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server.conftest import RunningServer

MESSAGES: list[Any] = [{"role": "user", "content": "Is it light in the box?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "set_light",
            "description": "Switch the light.",
            "parameters": {
                "type": "object",
                "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "box"]}},
                "required": ["on", "room"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "look"}},
]
NAMED: Any = {"type": "function", "function": {"name": "set_light"}}
SETTINGS: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 120, "model": "tiny"}


@pytest.fixture(scope="module")
def client(wide_server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=wide_server.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


def is_light_call(arguments: str) -> bool:
    value = json.loads(arguments)
    return (
        set(value) == {"on", "room"}
        and type(value["on"]) is bool
        and value["room"] in ("hall", "box")
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_named_tool_is_called_with_arguments_that_fit(client: openai.OpenAI, seed: int) -> None:
    answer = client.chat.completions.create(
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice=NAMED,
        **{**SETTINGS, "seed": seed},
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "set_light"
    assert is_light_call(call.function.arguments)


def test_a_required_call_streams_its_arguments(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=True, **SETTINGS
        )
    )
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    first = [each for each in deltas if each.id is not None]
    assert [each.index for each in first] == list(range(len(first)))
    assert len({each.id for each in first}) == len(first) >= 1
    for each in first:
        pieces = [d.function for d in deltas if d.index == each.index and d.function]
        arguments = "".join(piece.arguments or "" for piece in pieces)
        assert pieces[0].name in ("set_light", "look")
        if each is not first[-1] or chunks[-1].choices[0].finish_reason == "tool_calls":
            assert is_light_call(arguments) or pieces[0].name == "look"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_a_stream_has_the_calls_of_an_answer_in_one_piece(client: openai.OpenAI) -> None:
    settings: dict[str, Any] = {
        "messages": MESSAGES,
        "tools": TOOLS,
        "tool_choice": NAMED,
        **SETTINGS,
    }
    whole = client.chat.completions.create(**settings)
    with client.chat.completions.stream(**settings) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    assert whole.choices[0].message.tool_calls is not None
    assert [
        (each.function.name, each.function.arguments)
        for each in final.choices[0].message.tool_calls
    ] == [
        (each.function.name, each.function.arguments)
        for each in whole.choices[0].message.tool_calls
    ]


def test_calls_and_results_may_be_in_a_conversation(client: openai.OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "set_light", "arguments": '{"on": true, "room": "box"}'},
    }
    messages: list[Any] = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It is on."},
    ]
    with_call = client.chat.completions.create(messages=messages, tools=TOOLS, **SETTINGS)
    without = client.chat.completions.create(messages=MESSAGES, tools=TOOLS, **SETTINGS)
    assert with_call.usage is not None
    assert without.usage is not None
    assert with_call.usage.prompt_tokens > without.usage.prompt_tokens + 20


def test_a_schema_and_tools_give_a_call_or_an_answer(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"light": {"type": "boolean"}},
        "required": ["light"],
        "additionalProperties": False,
    }
    form: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    seen = set()
    for seed in range(8):
        answer = client.chat.completions.create(
            messages=MESSAGES,
            tools=TOOLS[:1],
            response_format=form,
            parallel_tool_calls=False,
            **{**SETTINGS, "seed": seed},
        )
        message = answer.choices[0].message
        if message.tool_calls:
            seen.add("call")
            assert is_light_call(message.tool_calls[0].function.arguments)
        else:
            seen.add("answer")
            assert type(json.loads(message.content or "")["light"]) is bool
    assert "answer" in seen or "call" in seen


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": "required", "tools": None}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "sing"}}}, "tool_choice"),
        ({"tool_choice": "always"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "web_search", "function": {"name": "a"}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools[1].function.name"),
        ({"tools": 3}, "tools"),
        (
            {
                "tools": [TOOLS[0], {"function": {"name": "a", "parameters": {"type": "x"}}}],
                "tool_choice": "required",
            },
            "tools[1].function.parameters",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs.chat_template"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs.tools"),
        ({"reasoning_effort": "most"}, "reasoning_effort"),
        (
            {"response_format": {"type": "json_object"}, "tool_choice": "required"},
            "response_format",
        ),
        ({"guided_regex": "a+"}, "regex"),
    ],
)
def test_what_is_wrong_with_tools_is_named(
    wide_server: RunningServer, change: dict[str, Any], field: str
) -> None:
    body = {"messages": MESSAGES, "tools": TOOLS, **SETTINGS, **change}
    answer = wide_server.post("/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_a_tool_whose_schema_takes_for_ever_is_refused(
    wide_server: RunningServer, choice: str
) -> None:
    patterns = [{"pattern": f"^.*{letter}.*$"} for letter in "abcdefghijklmnop"]
    parameters = {"type": "object", "properties": {"x": {"type": "string", "allOf": patterns}}}
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}],
        "tool_choice": choice,
        "response_format": {"type": "json_object"} if choice == "auto" else None,
    }
    answer = wide_server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools[0].function.parameters"
    assert "16 different patterns" in answer.json()["error"]["message"]
