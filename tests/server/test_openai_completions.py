"""The official client against a real server, on /v1/completions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import nextn
from tests.server.conftest import RunningServer

SETTINGS: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 24}
BIAS = 4.0  # for end tokens
PROMPTS = ["The box", "Another box"]


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> Iterator[nextn.Model]:
    with nextn.load(tiny_path, threads=1, context=256) as model:
        yield model


def test_a_completion_is_what_the_python_api_writes(
    client: openai.OpenAI, model: nextn.Model
) -> None:
    answer = client.completions.create(model="tiny", prompt=PROMPTS[0], **SETTINGS)
    expected = model.generate(PROMPTS[0], **SETTINGS)
    assert answer.choices[0].text == expected.text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(expected.tokens)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_prompt_is_computed_again_if_it_must_not_be_found(
    server: RunningServer, path: str
) -> None:
    text = "A box that was never opened before. " * 4
    body = {"prompt": text, "messages": [{"role": "user", "content": text}], **SETTINGS}
    answers = [
        server.post(path, {**body, **given}).json()
        for given in ({}, {}, {"cache_prompt": False}, {"cache_prompt": None})
    ]
    cached = [each["usage"]["prompt_tokens_details"]["cached_tokens"] for each in answers]
    assert cached[1] == cached[3] > cached[2] == 0
    assert answers[2]["timings"]["prompt_n"] == answers[2]["usage"]["prompt_tokens"]
    written = [str(each["choices"][0].get("text") or each["choices"][0]) for each in answers]
    assert written[1:] == written[:1] * 3
    refused = server.post(path, {**body, "cache_prompt": "no"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cache_prompt")


def test_token_ids_are_a_prompt(client: openai.OpenAI, model: nextn.Model) -> None:
    ids = model.tokenizer.encode(PROMPTS[0])
    answer = client.completions.create(model="tiny", prompt=ids, **SETTINGS)
    assert answer.choices[0].text == model.generate(PROMPTS[0], **SETTINGS).text


def test_several_prompts_have_their_choices_in_order(
    client: openai.OpenAI, model: nextn.Model
) -> None:
    answer = client.completions.create(model="tiny", prompt=PROMPTS, n=2, echo=True, **SETTINGS)
    expected = [
        prompt + model.generate(prompt, **{**SETTINGS, "seed": seed}).text
        for prompt in PROMPTS
        for seed in (5, 6)
    ]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == sum(len(model.tokenizer.encode(p)) for p in PROMPTS)


def test_streams_of_several_prompts_are_joined_by_index(
    client: openai.OpenAI, model: nextn.Model
) -> None:
    texts = ["", ""]
    reasons: list[str | None] = [None, None]
    for chunk in client.completions.create(model="tiny", prompt=PROMPTS, stream=True, **SETTINGS):
        choice = chunk.choices[0]
        texts[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [model.generate(prompt, **SETTINGS).text for prompt in PROMPTS]
    assert None not in reasons


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_stand_beside_their_tokens(
    client: openai.OpenAI, model: nextn.Model, stream: bool
) -> None:
    expected = model.generate(PROMPTS[0], logprobs=2, **SETTINGS)
    answer: Any = client.completions.create(
        model="tiny", prompt=PROMPTS[0], logprobs=2, stream=stream, **SETTINGS
    )
    pieces = [chunk.choices[0] for chunk in answer] if stream else [answer.choices[0]]
    parts = [piece.logprobs for piece in pieces if piece.logprobs is not None]
    ends = model.tokenizer.end_of_generation
    written = [token for token in expected.events if token.id not in ends]
    tokens = [token for part in parts for token in part.tokens]
    assert tokens == [model.tokenizer.token_text(token.id) for token in written]
    assert [p for part in parts for p in part.token_logprobs] == [t.logprob for t in written]
    offsets = [offset for part in parts for offset in part.text_offset]
    shown = [expected.text[start:] for start in offsets]
    tops = [top for part in parts for top in part.top_logprobs]
    for token, top in zip(written, tops, strict=True):
        for alternative, logprob in reversed(token.top_logprobs):
            spelled = model.tokenizer.token_text(alternative)
            assert top[spelled] >= logprob
        assert max(top.values()) == token.top_logprobs[0][1]
    for token, rest in zip(written, shown, strict=True):
        assert rest.startswith(token.text)


def test_control_tokens_in_a_prompt_are_control_tokens(
    client: openai.OpenAI, model: nextn.Model
) -> None:
    control = model.tokenizer.token_text(min(model.tokenizer.end_of_generation))
    ids = model.tokenizer.encode("a" + control, parse_special=True)
    answer = client.completions.create(model="tiny", prompt="a" + control, **SETTINGS)
    assert answer.choices[0].text == model.generate(ids, **SETTINGS).text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_end_tokens_that_are_ignored_have_logprobs(
    server: RunningServer, model: nextn.Model, path: str, stream: bool
) -> None:
    end = min(model.tokenizer.end_of_generation)
    body = {
        "prompt": PROMPTS[0],
        "messages": [{"role": "user", "content": PROMPTS[0]}],
        "logprobs": 1 if path == "/v1/completions" else True,
        "ignore_eos": True,
        "logit_bias": {str(end): BIAS},
        "stream": stream,
        **SETTINGS,
    }
    prompt = PROMPTS[0] if path == "/v1/completions" else model.chat_prompt(body["messages"])
    expected = model.generate(
        prompt, ignore_end=True, logit_bias={end: BIAS}, logprobs=0, **SETTINGS
    )
    assert 2 < expected.tokens.count(end) < SETTINGS["max_tokens"] - 2
    answer = server.post(path, body)
    events = [line[6:] for line in answer.text.split("\n\n") if line[6:] not in ("", "[DONE]")]
    choices = [
        choice
        for event in (events if stream else [answer.text])
        for choice in json.loads(event)["choices"]
    ]
    given = [choice["logprobs"] for choice in choices if choice.get("logprobs")]
    if path == "/v1/completions":
        assert [p for each in given for p in each["token_logprobs"]] == expected.logprobs
        offsets = [offset for each in given for offset in each["text_offset"]]
        before = ["".join(t.text for t in expected.events[:i]) for i in range(len(offsets))]
        assert offsets == [len(text) for text in before]
    else:
        numbers = [token["logprob"] for each in given for token in each["content"]]
        assert numbers == expected.logprobs
        # Also if it is the last one.
        length = expected.tokens.index(end, 2) + 1
        answer = server.post(path, {**body, "max_tokens": length, "stream": False})
        (choice,) = answer.json()["choices"]
        numbers = [token["logprob"] for token in choice["logprobs"]["content"]]
        assert numbers == expected.logprobs[:length]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", 3]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [1 << 70]}, "prompt"),
        ({"prompt": "x " * 4000}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 101}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"json_schema": {"type": 3}}, "json_schema"),
        ({"guided_regex": "("}, "regex"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
    ],
)
def test_a_bad_field_is_named(server: RunningServer, change: dict[str, Any], field: str) -> None:
    response = server.post("/v1/completions", {"prompt": "a", **SETTINGS, **change})
    error = response.json()["error"]
    assert response.status_code == 400
    assert error["param"] == field
    assert field.partition(".")[0] in error["message"]


@pytest.mark.parametrize("mtp", ["off", "auto"])
def test_a_form_is_kept_with_and_without_drafts(server: RunningServer, mtp: str) -> None:
    form = {"structured_outputs": {"regex": "(yes|no), (yes|no)"}, "mtp": mtp}
    answer = server.post("/v1/completions", {"prompt": "a", **SETTINGS, **form}).json()
    assert answer["choices"][0]["text"] in {"yes, no", "no, yes", "yes, yes", "no, no"}


def test_metrics_of_drafts_add_up(server: RunningServer) -> None:
    body = {
        "prompt": "ab ab ab ab ab ab ab",
        "temperature": 0,
        "max_tokens": 100,
        "ignore_eos": True,
        "mtp": 4,
        "per_request_spec_decode_metrics": "summary",
        "nextn": {"tokens": True},
    }
    answer = server.post("/v1/completions", body).json()
    metrics = answer["metrics"]["speculative_decoding"]
    histogram = metrics["acceptance_histogram"]
    assert metrics["num_spec_steps"] > 0
    assert sum(histogram) == metrics["num_spec_steps"]
    accepted = sum(i * count for i, count in enumerate(histogram))
    assert accepted == metrics["num_accepted_draft_tokens"] == answer["timings"]["draft_n_accepted"]
    assert metrics["num_draft_tokens"] == answer["timings"]["draft_n"]
    assert metrics["draft_acceptance_rate"] == accepted / metrics["num_draft_tokens"]
    assert answer["nextn"]["steps"] + accepted == 100
    assert sum(answer["nextn"]["drafted"].values()) == answer["timings"]["draft_n"]
