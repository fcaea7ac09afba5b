from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nextn
from tests.server.conftest import RunningServer

TEXT = "A box, é and <|im_end|>"


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> Iterator[nextn.Model]:
    with nextn.load(tiny_path, threads=1, context=256) as model:
        yield model


def test_tokens_come_back_as_text(server: RunningServer, model: nextn.Model) -> None:
    ids = server.post("/tokenize", {"content": TEXT}).json()["tokens"]
    assert ids == model.tokenizer.encode(TEXT, add_special=False, parse_special=True)
    assert server.post("/detokenize", {"tokens": ids}).json() == {"content": TEXT}


def test_pieces_are_text_or_bytes(server: RunningServer, model: nextn.Model) -> None:
    body = {"content": "é x", "with_pieces": True, "add_special": True}
    pieces: list[Any] = server.post("/tokenize", body).json()["tokens"]
    assert [piece["id"] for piece in pieces] == model.tokenizer.encode("é x", parse_special=True)
    for piece in pieces:
        spelled = piece["piece"]
        raw = spelled.encode() if isinstance(spelled, str) else bytes(spelled)
        assert raw == model.tokenizer.token_bytes(piece["id"])


def test_a_template_is_applied(server: RunningServer, model: nextn.Model) -> None:
    messages = [{"role": "user", "content": "What is in the box?"}]
    prompt = server.post("/apply-template", {"messages": messages}).json()["prompt"]
    assert prompt == model.tokenizer.decode(model.chat_prompt(messages))


def test_props_say_what_was_loaded(server: RunningServer, model: nextn.Model) -> None:
    props = server.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 256
    assert props["total_slots"] == 16
    assert props["chat_template"] == model.chat_template.source
    assert props["model_alias"] == "tiny"


def test_all_slots_are_free_without_requests(server: RunningServer) -> None:
    slots = server.get("/slots").json()
    assert len(slots) == 16
    assert not any(slot["is_processing"] for slot in slots)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": 3}, "content"),
        ("/detokenize", {"tokens": [-1]}, "tokens"),
        ("/detokenize", {"tokens": [1 << 40]}, "tokens"),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("/apply-template", {"messages": [{}]}, "messages[0].role"),
    ],
)
def test_a_bad_field_is_named(server: RunningServer, path: str, body: object, field: str) -> None:
    response = server.post(path, body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == field


def _metrics(server: RunningServer) -> dict[str, float]:
    """A strict reading of the text format: every line is a comment or a sample."""
    found = {}
    kinds = {}
    for line in server.get("/metrics").text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP|TYPE) [a-zA-Z0-9_:]+ .+", line)
            if line.startswith("# TYPE"):
                _, _, name, kind = line.split()
                assert name not in kinds
                kinds[name] = kind
        else:
            sample = re.fullmatch(r"([a-zA-Z0-9_:]+)\{(\w+=\"[^\"]*\",?)+\} [0-9.e+-]+", line)
            assert sample, line
            base = re.sub(r"_(bucket|sum|count)$", "", sample[1])
            assert base in kinds or sample[1] in kinds
            name, value = line.rsplit(" ", 1)
            assert name not in found
            found[name] = float(value)
    return found


def test_metrics_count_what_answers_say(server: RunningServer) -> None:
    before = _metrics(server)
    answers = [
        server.post("/v1/completions", {"prompt": "ab ab ab ab", "mtp": 3, "max_tokens": 40}).json()
        for _ in range(3)
    ]
    after = _metrics(server)

    def grown(name: str, labels: str = "") -> float:
        key = f'{name}{{model_name="tiny"{labels}}}'
        return after[key] - before.get(key, 0)

    tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
    assert grown("llamacpp:tokens_predicted_total") == tokens
    assert grown("vllm:generation_tokens_total") == tokens
    assert grown("vllm:prompt_tokens_total") == sum(
        answer["usage"]["prompt_tokens"] for answer in answers
    )
    drafted = sum(answer["timings"].get("draft_n", 0) for answer in answers)
    accepted = sum(answer["timings"].get("draft_n_accepted", 0) for answer in answers)
    assert grown("llamacpp:spec_decode_num_draft_tokens_total") == drafted
    assert grown("vllm:spec_decode_num_accepted_tokens_total") == accepted
    assert grown("vllm:time_to_first_token_seconds_count") == 3
    assert grown("vllm:e2e_request_latency_seconds_bucket", ',le="+Inf"') == 3
    assert grown("llamacpp:n_decode_total") >= tokens - accepted
    assert after['vllm:num_requests_running{model_name="tiny"}'] == 0
    assert after['vllm:kv_cache_usage_perc{model_name="tiny"}'] == 0
