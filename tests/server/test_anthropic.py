from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

import nextn
from tests.server.conftest import RunningServer

MESSAGES: list[Any] = [{"role": "user", "content": "Is it light in the box?"}]
SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "box"]}},
    "required": ["on", "room"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"name": "set_light", "description": "Switch the light.", "input_schema": SCHEMA},
    {"name": "look", "input_schema": {"type": "object"}},
]
NAMED: Any = {"type": "tool", "name": "set_light", "disable_parallel_tool_use": True}
EXTRA = {"seed": 5, "temperature": 1.0}
SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 160,
    "extra_body": EXTRA,
}


@pytest.fixture(scope="module")
def client(wide_server: RunningServer) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=wide_server.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(wide_path: Any) -> Iterator[nextn.Model]:
    with nextn.load(wide_path, threads=1, context=4096) as model:
        yield model


def fits(value: Any) -> bool:
    return set(value) == {"on", "room"} and type(value["on"]) is bool


def test_an_answer_is_what_the_python_api_writes(
    client: anthropic.Anthropic, model: nextn.Model
) -> None:
    answer = client.messages.create(messages=MESSAGES, system="Be brief.", **SETTINGS)
    messages = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    expected = model.chat(messages, temperature=1.0, seed=5, max_tokens=160)
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text == expected.text
    assert answer.role == "assistant"
    assert answer.stop_reason == ("end_turn" if expected.finish_reason == "stop" else "max_tokens")
    usage = answer.usage
    assert usage.output_tokens == len(expected.tokens)
    prompt = len(model.chat_prompt(messages))
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == prompt


def test_a_stream_is_the_same_message(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(messages=MESSAGES, **SETTINGS)
    with client.messages.stream(messages=MESSAGES, **SETTINGS) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert [block.text for block in final.content if block.type == "text"] == [
        block.text for block in whole.content if block.type == "text"
    ]
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_blocks_in_a_stream_are_begun_added_to_and_ended(wide_server: RunningServer) -> None:
    body = {
        "messages": MESSAGES, "model": "tiny", "max_tokens": 160, "tools": TOOLS, "stream": True,
        "tool_choice": NAMED,
    }  # fmt: skip
    text = wide_server.post("/v1/messages", body).text
    names = [line.removeprefix("event: ") for line in text.split("\n") if line.startswith("event")]
    assert names[0] == "message_start"
    assert names[1] == "content_block_start"
    assert set(names[2:-3]) == {"content_block_delta"}
    assert names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_tool_is_called_with_input_that_fits(client: anthropic.Anthropic) -> None:
    answer = client.messages.create(messages=MESSAGES, tools=TOOLS, tool_choice=NAMED, **SETTINGS)
    assert answer.stop_reason == "tool_use"
    (block,) = answer.content
    assert block.type == "tool_use"
    assert block.name == "set_light"
    assert fits(block.input)
    with client.messages.stream(
        messages=MESSAGES, tools=TOOLS, tool_choice=NAMED, **SETTINGS
    ) as stream:
        (streamed,) = stream.get_final_message().content
    assert streamed.type == "tool_use"
    assert streamed.input == block.input


def test_results_of_tools_are_read(client: anthropic.Anthropic) -> None:
    use: Any = {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "set_light",
        "input": {"on": True, "room": "box"},
    }
    result = [{"type": "text", "text": "It is on."}]
    messages: list[Any] = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "I will see."},
                use,
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": result},
                {"type": "text", "text": "And now?"},
            ],
        },
    ]
    answer = client.messages.create(messages=messages, tools=TOOLS, **SETTINGS)
    usage = answer.usage
    counted = client.messages.count_tokens(model="tiny", messages=messages, tools=TOOLS)
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == counted.input_tokens
    fewer = client.messages.count_tokens(model="tiny", messages=messages[:1], tools=TOOLS)
    assert counted.input_tokens > fewer.input_tokens > 0


def test_an_answer_in_a_form_is_valid(client: anthropic.Anthropic) -> None:
    form: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = client.messages.create(messages=MESSAGES, output_config=form, **SETTINGS)
    (block,) = answer.content
    assert block.type == "text"
    assert fits(json.loads(block.text))


def test_a_stop_sequence_is_named(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(messages=MESSAGES, **SETTINGS).content[0].text
    stops = [whole[7:9], "never that", whole[5:8]]
    answer = client.messages.create(messages=MESSAGES, stop_sequences=stops, **SETTINGS)
    assert answer.stop_reason == "stop_sequence"
    assert answer.stop_sequence is not None
    text = answer.content[0].text if answer.content else ""
    assert whole.startswith(text + answer.stop_sequence)
    assert not any(stop in text for stop in stops)


def test_a_client_that_leaves_ends_its_text(
    wide_server: RunningServer, client: anthropic.Anthropic
) -> None:
    settings = {**SETTINGS, "max_tokens": 3000}
    with client.messages.stream(messages=MESSAGES, **settings) as stream:
        for event in stream:
            if event.type == "content_block_delta":
                break
    for _ in range(400):
        if not wide_server.server.models.loaded["tiny"].leases:
            break
        time.sleep(0.05)
    assert wide_server.server.models.loaded["tiny"].leases == 0


IMAGE = {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": ""}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [*MESSAGES, {"role": "assistant", "content": "It"}]}, "messages[1].role"),
        ({"system": 3}, "system"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 2}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"stream": "yes"}, "stream"),
        ({"seed": -3}, "seed"),
        ({"mtp": 99}, "mtp"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "tool", "name": "sing"}}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "x"}}}},
            "output_config.format.schema",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages"])
def test_what_is_wrong_is_named_in_anthropics_shape(
    wide_server: RunningServer, path: str, change: dict[str, Any], field: str
) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, "tools": TOOLS, **change}
    if "output_config" in change:
        del body["tools"]
    if change.get("max_tokens", 1) is None or change.get("messages", 1) is None:
        body = {name: value for name, value in body.items() if value is not None}
    answer = wide_server.post(path, body)
    assert answer.status_code == 400, answer.text
    error = answer.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["error"]["message"].startswith(field)


def test_unknown_models_and_paths_are_not_found(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="known are tiny") as caught:
        client.messages.create(messages=MESSAGES, **{**SETTINGS, "model": "claude"})
    assert caught.value.body["error"]["type"] == "not_found_error"  # type: ignore[index,call-overload]
    with pytest.raises(anthropic.NotFoundError, match="/v1/messages/batches"):
        client.messages.batches.list()


def test_a_prompt_that_is_too_long_says_both_numbers(client: anthropic.Anthropic) -> None:
    long: list[Any] = [{"role": "user", "content": "word " * 6000}]
    with pytest.raises(anthropic.BadRequestError, match=r"has \d+ tokens.* 4096"):
        client.messages.create(messages=long, **SETTINGS)
