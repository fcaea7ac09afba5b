"""The promises on the default model with its head, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

import nextn
from nextn.server.models import ModelSpec
from tests.server.conftest import RunningServer

pytestmark = pytest.mark.models

QUESTIONS = [
    "Write a haiku about the sea.",
    "Count from one to ten in words.",
    "What is the capital of France?",
    "Write a Python function that adds two numbers.",
]
SETTINGS: dict[str, Any] = {"temperature": 0.8, "max_tokens": 24}


def conversation(index: int) -> list[Any]:
    return [{"role": "user", "content": QUESTIONS[index % len(QUESTIONS)]}]


@pytest.fixture(scope="module")
def real(smollm2_path: Path) -> Iterator[RunningServer]:
    def load() -> nextn.Model:
        return nextn.load("smollm2", context=1024, max_sequences=16)

    with RunningServer([ModelSpec(name="smollm2", load=load)]) as running:
        yield running


@pytest.fixture(scope="module")
def client(real: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=real.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def expected(smollm2_path: Path) -> list[str]:
    """What sixteen requests are answered when each is written alone and without drafts."""
    with nextn.load("smollm2", context=1024, head=None) as model:
        return [
            model.chat(conversation(seed), seed=seed, draft="off", **SETTINGS).text
            for seed in range(16)
        ]


@pytest.mark.parametrize("mtp", ["off", "auto", 4])
def test_sixteen_together_are_each_as_alone_without_drafts(
    client: openai.OpenAI, expected: list[str], mtp: object
) -> None:
    def ask(seed: int) -> str:
        chunks = client.chat.completions.create(
            model="smollm2",
            messages=conversation(seed),
            seed=seed,
            stream=seed % 2 == 0,  # type: ignore[call-overload]
            extra_body={"mtp": mtp},
            **SETTINGS,
        )
        if seed % 2:
            return str(chunks.choices[0].message.content)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(16))) == expected


def test_every_way_gives_the_same_text(real: RunningServer, expected: list[str]) -> None:
    prompt = real.post("/apply-template", {"messages": conversation(1)}).json()["prompt"]
    ids = real.post("/tokenize", {"content": prompt}).json()["tokens"]
    for given in (prompt, ids):
        body = {"prompt": given, "seed": 1, **SETTINGS}
        assert real.post("/v1/completions", body).json()["choices"][0]["text"] == expected[1]
        answer = real.post("/v1/completions", {**body, "stream": True}).text
        events = [json.loads(line[6:]) for line in answer.split("\n\n") if line[6:7] == "{"]
        assert "".join(event["choices"][0]["text"] for event in events) == expected[1]


def test_the_head_drafts_and_says_so(real: RunningServer) -> None:
    body = {
        "messages": conversation(1),
        "temperature": 0,
        "max_tokens": 30,
        "mtp": 3,
        "nextn": {"tokens": True},
        "stream": True,
    }
    answer = real.post("/v1/chat/completions", body).text
    events = [json.loads(line[6:]) for line in answer.split("\n\n") if line[6:7] == "{"]
    tokens = [token for event in events for token in event.get("nextn", {}).get("tokens", [])]
    timings = events[-1]["timings"]
    assert len(tokens) == timings["predicted_n"]
    assert sum(token["origin"] != "trunk" for token in tokens) == timings["draft_n_accepted"] > 0
    assert "head" in {token["origin"] for token in tokens}
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert "".join(token["text"] for token in tokens) == text


def test_a_second_turn_reads_only_what_is_new(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Tell me about harbours. " * 60}]
    first = client.chat.completions.create(model="smollm2", messages=messages, max_tokens=20)
    messages.append({"role": "assistant", "content": first.choices[0].message.content})
    messages.append({"role": "user", "content": "And lighthouses?"})
    second = client.chat.completions.create(model="smollm2", messages=messages, max_tokens=5)
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    cached = second.usage.prompt_tokens_details.cached_tokens or 0
    # All but the last, unfinished block of 32 positions.
    assert cached > first.usage.prompt_tokens - 32


def test_eight_users_with_one_system_prompt_have_it_computed_once(real: RunningServer) -> None:
    system = {"role": "system", "content": "You know all ships of the fleet by name. " * 50}

    def ask(user: int) -> dict[str, Any]:
        question = {"role": "user", "content": f"I am number {user}."}
        body = {"messages": [system, question], "max_tokens": 3}
        answer: dict[str, Any] = real.post("/v1/chat/completions", body).json()
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    prompts = [answer["usage"]["prompt_tokens"] for answer in answers]
    computed = sum(answer["timings"]["prompt_n"] for answer in answers)
    assert min(prompts) > 500
    # One of them reads it; each of the others reads at most a block and its own question.
    assert computed < max(prompts) + 7 * 64


def test_a_schema_is_kept_with_drafts(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "large": {"type": "boolean"}},
        "required": ["city", "large"],
        "additionalProperties": False,
    }
    texts = set()
    for mtp in ("off", "auto", 5):
        answer = client.chat.completions.create(
            model="smollm2",
            messages=[{"role": "user", "content": "Name a city, as JSON."}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "city", "schema": schema, "strict": True},
            },
            seed=3,
            extra_body={"mtp": mtp},
        )
        text = str(answer.choices[0].message.content)
        found = json.loads(text)
        assert set(found) == {"city", "large"}
        assert isinstance(found["large"], bool)
        texts.add(text)
    assert len(texts) == 1
