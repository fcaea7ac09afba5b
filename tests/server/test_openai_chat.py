"""The official client against a real server: what it reads is what the Python API writes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

import nextn
from tests.server.conftest import RunningServer

MESSAGES: list[Any] = [{"role": "user", "content": "What is in the box?"}]
SETTINGS: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 24}


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> Iterator[nextn.Model]:
    with nextn.load(tiny_path, threads=1, context=256) as model:
        yield model


def test_an_answer_is_what_the_python_api_writes(client: openai.OpenAI, model: nextn.Model) -> None:
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, **SETTINGS)
    expected = model.chat(MESSAGES, **SETTINGS)
    choice = answer.choices[0]
    assert choice.message.content == expected.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == ("stop" if expected.finish_reason == "stop" else "length")
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(expected.tokens)
    assert answer.usage.prompt_tokens == len(model.chat_prompt(MESSAGES))
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(expected.tokens)


@pytest.mark.parametrize("mtp", ["auto", "off", 1, 7])
def test_a_stream_is_the_same_text_with_any_draft(
    client: openai.OpenAI, model: nextn.Model, mtp: object
) -> None:
    chunks = list(
        client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"mtp": mtp},
            **SETTINGS,
        )
    )
    expected = model.chat(MESSAGES, **SETTINGS)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == expected.text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason is not None
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(expected.tokens)
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_ends_with_done_and_timings(server: RunningServer) -> None:
    body = {"messages": MESSAGES, "stream": True, **SETTINGS}
    lines = [line for line in server.post("/v1/chat/completions", body).text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    assert '"timings":{"cache_n":' in lines[-2]


def test_logprobs_are_those_of_the_python_api(client: openai.OpenAI, model: nextn.Model) -> None:
    expected = model.chat(MESSAGES, logprobs=3, **SETTINGS)
    answer = client.chat.completions.create(
        model="tiny", messages=MESSAGES, logprobs=True, top_logprobs=3, **SETTINGS
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    written = [
        token for token in expected.events if token.id not in model.tokenizer.end_of_generation
    ]
    assert len(logprobs.content) == len(written)
    for item, token in zip(logprobs.content, written, strict=True):
        assert token.logprob is not None
        assert math.isclose(item.logprob, token.logprob, rel_tol=1e-9)
        assert bytes(item.bytes or []) == model.tokenizer.token_bytes(token.id)
        assert [top.logprob for top in item.top_logprobs] == [p for _, p in token.top_logprobs]


def test_sixteen_together_are_each_as_alone(client: openai.OpenAI, model: nextn.Model) -> None:
    def ask(seed: int) -> str | None:
        settings = {**SETTINGS, "seed": seed}
        answer = client.chat.completions.create(model="tiny", messages=MESSAGES, **settings)
        return answer.choices[0].message.content

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(16)))
    for seed, text in enumerate(together):
        assert text == model.chat(MESSAGES, **{**SETTINGS, "seed": seed}).text


def test_choices_have_seeds_one_after_the_other(client: openai.OpenAI, model: nextn.Model) -> None:
    answer = client.chat.completions.create(model="tiny", messages=MESSAGES, n=3, **SETTINGS)
    expected = [model.chat(MESSAGES, **{**SETTINGS, "seed": 5 + i}).text for i in range(3)]
    assert [choice.message.content for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": ""}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"seed": 1 << 64}, "seed"),
        ({"seed": -2}, "seed"),
        ({"n": 0}, "n"),
        ({"n": 65}, "n"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"mtp": 17}, "mtp"),
        ({"mtp": "on"}, "mtp"),
        ({"mtp": 2, "speculative.n_max": 3}, "mtp"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"messages": [{"role": "user", "content": "x " * 4000}]}, "messages"),
        ({"chat_template_kwargs": {"chat_template": "x"}}, "chat_template_kwargs.chat_template"),
    ],
)
def test_a_bad_field_is_named(server: RunningServer, change: dict[str, Any], field: str) -> None:
    response = server.post("/v1/chat/completions", {"messages": MESSAGES, **SETTINGS, **change})
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"] == field
    assert error["type"] == "invalid_request_error"
    assert field.partition(".")[0].partition("[")[0] in error["message"]


def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "x " * 4000}]
    with pytest.raises(openai.BadRequestError, match=r"has \d{4} tokens.* context holds 256") as e:
        client.chat.completions.create(model="tiny", messages=messages)
    assert e.value.code == "context_length_exceeded"


def test_an_unknown_model_is_refused_with_the_known_ones(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="known are tiny") as caught:
        client.chat.completions.create(model="gpt-9", messages=MESSAGES)
    assert caught.value.code == "model_not_found"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"


def test_a_client_that_leaves_cancels_its_text(server: RunningServer) -> None:
    body = {"messages": MESSAGES, "stream": True, "ignore_eos": True, "max_tokens": 200}
    with httpx.stream("POST", server.url + "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
    engine = server.server.models.loaded["tiny"].engine
    for _ in range(1000):
        if not engine.running and not server.server.models.loaded["tiny"].leases:
            return
        server.get("/health")
    raise AssertionError("the text goes on without a reader")
