from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import pytest

import nextn
from nextn.server.errors import ApiError
from nextn.server.ollama_requests import keep_alive_seconds
from nextn.server.state import ServerSettings
from tests.server.conftest import RunningServer, spec

MESSAGES: list[Any] = [{"role": "user", "content": "Is it light in the box?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"enum": ["hall", "box"]}},
    "required": ["on", "room"],
    "additionalProperties": False,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "set_light", "description": "Switch it.", "parameters": SCHEMA},
}
OPTIONS = {"temperature": 1.0, "seed": 5, "num_predict": 60}


@pytest.fixture(scope="module")
def client(wide_server: RunningServer) -> ollama.Client:
    return ollama.Client(host=wide_server.url)


@pytest.fixture(scope="module")
def model(wide_path: Path) -> Iterator[nextn.Model]:
    with nextn.load(wide_path, threads=1, context=4096) as model:
        yield model


def test_a_chat_is_what_the_python_api_writes(client: ollama.Client, model: nextn.Model) -> None:
    answer = client.chat("tiny", MESSAGES, options=OPTIONS)
    expected = model.chat(MESSAGES, temperature=1.0, seed=5, max_tokens=60)
    assert answer.message.content == expected.text
    assert answer.message.role == "assistant"
    assert answer.done is True
    assert answer.done_reason == ("stop" if expected.finish_reason == "stop" else "length")
    assert answer.prompt_eval_count == len(model.chat_prompt(MESSAGES))
    assert answer.eval_count == len(expected.tokens)
    # Nanoseconds: a text takes more than a microsecond and less than an hour.
    for duration in (answer.total_duration, answer.eval_duration):
        assert duration is not None
        assert 10**3 < duration < 3600 * 10**9
    assert answer.total_duration > answer.eval_duration


def test_lines_of_a_stream_make_the_same_chat(client: ollama.Client) -> None:
    whole = client.chat("tiny", MESSAGES, options=OPTIONS)
    pieces = list(client.chat("tiny", MESSAGES, options=OPTIONS, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == whole.eval_count
    assert pieces[0].total_duration is None


def test_a_stream_is_the_default(wide_server: RunningServer) -> None:
    answer = wide_server.post("/api/chat", {"model": "tiny", "messages": MESSAGES})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert json.loads(answer.text.splitlines()[-1])["done"] is True


def test_generate_answers_a_prompt_with_the_template(
    client: ollama.Client, model: nextn.Model
) -> None:
    answer = client.generate("tiny", "Is it light?", system="Be brief.", options=OPTIONS)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it light?"},
    ]
    expected = model.chat(messages, temperature=1.0, seed=5, max_tokens=60)
    assert answer.response == expected.text
    streamed = client.generate(
        "tiny", "Is it light?", system="Be brief.", options=OPTIONS, stream=True
    )
    assert "".join(piece.response for piece in streamed) == expected.text


def test_generate_continues_a_raw_prompt(client: ollama.Client, model: nextn.Model) -> None:
    answer = client.generate("tiny", "Once upon", raw=True, options=OPTIONS)
    expected = model.generate("Once upon", temperature=1.0, seed=5, max_tokens=60)
    assert answer.response == expected.text


def test_a_format_is_kept(client: ollama.Client) -> None:
    answer = client.chat("tiny", MESSAGES, format=SCHEMA, options=OPTIONS)
    assert set(json.loads(answer.message.content or "")) == {"on", "room"}
    any_json = client.generate("tiny", "x", format="json", options={**OPTIONS, "num_predict": 900})
    if any_json.done_reason == "stop":
        assert isinstance(json.loads(any_json.response), dict)


def test_calls_and_results_may_be_in_a_conversation(client: ollama.Client) -> None:
    call = {"function": {"name": "set_light", "arguments": {"on": True, "room": "box"}}}
    messages: list[Any] = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "set_light", "content": "It is on."},
    ]
    more = client.chat("tiny", messages, tools=[TOOL], options=OPTIONS)
    less = client.chat("tiny", MESSAGES, tools=[TOOL], options=OPTIONS)
    assert more.prompt_eval_count is not None
    assert less.prompt_eval_count is not None
    assert more.prompt_eval_count > less.prompt_eval_count + 20


def test_logprobs_belong_to_the_tokens(client: ollama.Client, model: nextn.Model) -> None:
    answer = client.chat("tiny", MESSAGES, options=OPTIONS, logprobs=True, top_logprobs=2)
    expected = model.chat(MESSAGES, temperature=1.0, seed=5, max_tokens=60, logprobs=2)
    assert answer.logprobs is not None
    numbers = [each for each in expected.logprobs if each is not None]
    assert [each.logprob for each in answer.logprobs] == numbers[: len(answer.logprobs)]
    assert all(len(each.top_logprobs or ()) == 2 for each in answer.logprobs)


def test_models_are_listed_and_shown(client: ollama.Client) -> None:
    (listed,) = client.list().models
    assert listed.model == "tiny:latest"
    assert listed.details is not None
    assert listed.details.family == "llama"
    page = client.show("tiny:latest")
    assert page.capabilities == ["completion", "tools"]
    assert page.modelinfo is not None
    assert page.modelinfo["general.architecture"] == "llama"
    assert page.template is not None
    assert "im_start" in page.template
    (running,) = client.ps().models
    assert running.context_length == 4096
    assert running.expires_at is not None


def test_the_version_is_that_of_nextn(wide_server: RunningServer) -> None:
    assert wide_server.get("/api/version").json() == {"version": nextn.__version__}


def test_a_model_is_loaded_and_unloaded_on_request(tiny_path: Path) -> None:
    with RunningServer([spec(tiny_path)], ServerSettings()) as running:
        client = ollama.Client(host=running.url)
        loaded = client.generate("tiny", keep_alive="10m")
        assert (loaded.done_reason, loaded.response) == ("load", "")
        assert 590 < running.server.models.loaded["tiny"].keep_alive <= 600
        assert client.chat("tiny", [], keep_alive=0).done_reason == "unload"
        for _ in range(400):
            if not client.ps().models:
                break
            time.sleep(0.02)
        assert not client.ps().models
        assert client.chat("tiny", MESSAGES, options=OPTIONS).done


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (300, 300.0),
        (1.5, 1.5),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("90", 90.0),
        (0, 0.0),
        ("0", 0.0),
        (-1, None),
        ("-1", None),
        ("-1m", None),
    ],
)
def test_durations_are_those_of_go(given: float | str, seconds: float | None) -> None:
    assert keep_alive_seconds(given) == seconds


@pytest.mark.parametrize("given", ["", "soon", "5 m", "m5", "nan", "inf", "1e400"])
def test_what_is_no_duration_is_refused(given: str) -> None:
    with pytest.raises(ApiError, match="keep_alive"):
        keep_alive_seconds(given)


@pytest.mark.parametrize(
    ("path", "change", "field"),
    [
        ("/api/chat", {"messages": 3}, "messages"),
        ("/api/chat", {"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["eA=="]}]}, "messages[0].images"),
        ("/api/chat", {"messages": [{"role": "assistant", "content": ""}]}, "messages[0].role"),
        ("/api/chat", {"tools": [{"type": "function"}]}, "tools[0].function"),
        (
            "/api/chat",
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
        ),
        ("/api/chat", {"options": 3}, "options"),
        ("/api/chat", {"options": {"temperature": -1}}, "options.temperature"),
        ("/api/chat", {"options": {"top_p": 2}}, "options.top_p"),
        ("/api/chat", {"options": {"seed": "x"}}, "options.seed"),
        ("/api/chat", {"options": {"seed": -7}}, "options.seed"),
        ("/api/chat", {"options": {"num_predict": 0}}, "options.num_predict"),
        ("/api/chat", {"options": {"num_predict": -3}}, "options.num_predict"),
        ("/api/chat", {"options": {"stop": [""]}}, "options.stop"),
        ("/api/chat", {"options": {"mirostat": 1}}, "options.mirostat"),
        ("/api/chat", {"options": {"draft_num_predict": 99}}, "options.draft_num_predict"),
        ("/api/chat", {"format": "yaml"}, "format"),
        ("/api/chat", {"format": {"type": "x"}}, "format"),
        ("/api/chat", {"think": "a lot"}, "think"),
        ("/api/chat", {"think": True}, "think"),
        ("/api/chat", {"keep_alive": "soon"}, "keep_alive"),
        ("/api/chat", {"stream": 1}, "stream"),
        ("/api/chat", {"top_logprobs": 3}, "top_logprobs"),
        ("/api/generate", {"suffix": "x"}, "suffix"),
        ("/api/generate", {"template": "x"}, "template"),
        ("/api/generate", {"context": [1, 2]}, "context"),
        ("/api/generate", {"raw": True, "system": "x"}, "system"),
        ("/api/generate", {"prompt": 3}, "prompt"),
        ("/api/show", {"model": ""}, "model"),
    ],
)
def test_what_is_wrong_is_named_in_ollamas_shape(
    wide_server: RunningServer, path: str, change: dict[str, Any], field: str
) -> None:
    base = {"messages": MESSAGES} if path == "/api/chat" else {"prompt": "x"}
    answer = wide_server.post(path, {"model": "tiny", **base, **change})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].startswith(field)


def test_unknown_models_are_not_found(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="known are tiny") as caught:
        client.chat("llama3", MESSAGES)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="/api/pull") as caught:
        client.pull("llama3")
    assert caught.value.status_code == 404


def test_a_client_that_leaves_ends_its_text(
    wide_server: RunningServer, client: ollama.Client
) -> None:
    stream = client.chat("tiny", MESSAGES, options={"num_predict": 3000}, stream=True)
    next(stream)
    stream.close()
    for _ in range(400):
        if not wide_server.server.models.loaded["tiny"].leases:
            break
        time.sleep(0.05)
    assert wide_server.server.models.loaded["tiny"].leases == 0
