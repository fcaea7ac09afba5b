from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import nextn
from tests.server.conftest import RunningServer

INPUT = "Is it light in the box?"
MESSAGES = [{"role": "user", "content": INPUT}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "box"]}},
    "required": ["on", "room"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "name": "set_light", "description": "Switch it.", "parameters": SCHEMA}
]
NAMED: Any = {"type": "function", "name": "set_light"}
SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "temperature": 1.0,
    "max_output_tokens": 160,
    "extra_body": {"seed": 5},
}


@pytest.fixture(scope="module")
def client(wide_server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=wide_server.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(wide_path: Path) -> Iterator[nextn.Model]:
    with nextn.load(wide_path, threads=1, context=4096) as model:
        yield model


def test_an_answer_is_what_the_python_api_writes(client: openai.OpenAI, model: nextn.Model) -> None:
    answer = client.responses.create(input=INPUT, instructions="Be brief.", **SETTINGS)
    messages = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    expected = model.chat(messages, temperature=1.0, seed=5, max_tokens=160)
    assert answer.output_text == expected.text
    assert answer.status == ("completed" if expected.finish_reason == "stop" else "incomplete")
    assert answer.usage is not None
    assert answer.usage.output_tokens == len(expected.tokens)
    assert answer.usage.input_tokens == len(model.chat_prompt(messages))
    assert answer.previous_response_id is None


def test_a_stream_is_the_same_answer(client: openai.OpenAI) -> None:
    whole = client.responses.create(input=INPUT, **SETTINGS)
    events = list(client.responses.create(input=INPUT, stream=True, **SETTINGS))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:-1] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ]
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    final = events[-1].response
    assert "".join(deltas) == final.output_text == whole.output_text
    assert events[-1].type == f"response.{final.status}"
    added = events[2].item
    assert (added.status, added.content) == ("in_progress", [])
    assert events[3].part.text == ""


def test_the_clients_own_accumulator_agrees(client: openai.OpenAI) -> None:
    with client.responses.stream(
        input=INPUT, tools=TOOLS, tool_choice=NAMED, parallel_tool_calls=False, **SETTINGS
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.function_call_arguments.delta" in kinds
    (call,) = final.output
    assert call.type == "function_call"
    assert set(json.loads(call.arguments)) == {"on", "room"}


def test_a_function_is_called_with_arguments_that_fit(client: openai.OpenAI) -> None:
    answer = client.responses.create(
        input=INPUT, tools=TOOLS, tool_choice=NAMED, parallel_tool_calls=False, **SETTINGS
    )
    (call,) = answer.output
    assert call.type == "function_call"
    assert (call.name, call.status, answer.status) == ("set_light", "completed", "completed")
    assert type(json.loads(call.arguments)["on"]) is bool
    again = [
        {"role": "user", "content": INPUT},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "It is on."},
    ]
    following = client.responses.create(input=again, tools=TOOLS, **SETTINGS)
    assert following.usage is not None
    assert answer.usage is not None
    assert following.usage.input_tokens > answer.usage.input_tokens + 20


def test_the_form_of_the_text_is_kept(client: openai.OpenAI) -> None:
    form: Any = {"format": {"type": "json_schema", "name": "light", "schema": SCHEMA}}
    answer = client.responses.create(input=INPUT, text=form, **SETTINGS)
    assert set(json.loads(answer.output_text)) == {"on", "room"}


def test_logprobs_are_those_of_the_python_api(client: openai.OpenAI, model: nextn.Model) -> None:
    answer = client.responses.create(
        input=INPUT, include=["message.output_text.logprobs"], top_logprobs=2, **SETTINGS
    )
    expected = model.chat(MESSAGES, temperature=1.0, seed=5, max_tokens=160, logprobs=2)
    (message,) = answer.output
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    numbers = [each for each in expected.logprobs if each is not None]
    assert part.logprobs is not None
    given = [each.logprob for each in part.logprobs]
    assert given == numbers[: len(given)]
    assert len(given) >= len(numbers) - 2  # an end token has none


def test_a_prompt_is_computed_again_if_it_must_not_be_found(wide_server: RunningServer) -> None:
    body = {"model": "tiny", "input": "A box that was never seen before. " * 4, "seed": 5}
    answers = [
        wide_server.post("/v1/responses", {**body, "max_output_tokens": 8, **given}).json()
        for given in ({}, {}, {"cache_prompt": False})
    ]
    cached = [answer["usage"]["input_tokens_details"]["cached_tokens"] for answer in answers]
    assert cached[1] > cached[2] == 0
    assert answers[0]["output"][0]["content"] == answers[2]["output"][0]["content"]


def test_a_client_that_leaves_ends_its_text(
    wide_server: RunningServer, client: openai.OpenAI
) -> None:
    settings = {**SETTINGS, "max_output_tokens": 3000}
    with client.responses.create(input=INPUT, stream=True, **settings) as stream:
        next(iter(stream))
    for _ in range(400):
        if not wide_server.server.models.loaded["tiny"].leases:
            break
        time.sleep(0.05)
    assert wide_server.server.models.loaded["tiny"].leases == 0


IMAGE = {"type": "input_image", "image_url": "http://x/y.png"}


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e400", '"\\ud800"'])
def test_arguments_that_are_no_json_are_refused(wide_server: RunningServer, value: str) -> None:
    call = {"type": "function_call", "name": "a", "call_id": "b", "arguments": f'{{"x": {value}}}'}
    answer = wide_server.post("/v1/responses", {"model": "tiny", "input": [call]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input[0].arguments"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"input": 3}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [IMAGE]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call", "name": "a", "call_id": "b"}]}, "input[0].arguments"),
        (
            {"input": [{"type": "function_call", "name": "a", "call_id": "b", "arguments": "["}]},
            "input[0].arguments",
        ),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"seed": -3}, "seed"),
        ({"mtp": 99}, "mtp"),
        ({"stream": "yes"}, "stream"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "function", "name": "sing"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"reasoning": {"effort": "most"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "x"}}}},
            "text.format.schema",
        ),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs.chat_template"),
    ],
)
def test_what_is_wrong_is_named(
    wide_server: RunningServer, change: dict[str, Any], field: str
) -> None:
    answer = wide_server.post("/v1/responses", {"model": "tiny", "input": INPUT, **change})
    assert answer.status_code == 400, answer.text
    assert (answer.json()["error"]["param"] or "").startswith(field)
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_answers_are_not_kept(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
