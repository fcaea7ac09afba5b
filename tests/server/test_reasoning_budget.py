"""Reasoning that is brought to its end when its budget is used up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nextn
from nextn.server.state import ServerSettings
from tests.server.conftest import RunningServer, spec
from tests.support.tiny_gguf import CHATML_TEMPLATE, TinyHead, write_tiny_model

TEMPLATE = CHATML_TEMPLATE.replace(
    "assistant\\n' }}", "assistant\\n' }}{% if not plain %}{{ '<think>\\n' }}{% endif %}"
)
MESSAGES = [{"role": "user", "content": "Is it light in the box?"}]
PARAMETERS = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
BUDGET = 14  # where no character breaks off


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that thinks, with a head that is often right."""
    path = tmp_path_factory.mktemp("thinking") / "tiny.gguf"
    write_tiny_model(
        path,
        "llama",
        heads=2,
        head_dim=32,
        layers=1,
        tied=False,
        head=TinyHead(noise=0.4),
        context_length=2048,
        chat_template=TEMPLATE + "{# </think> #}",
    )
    return path


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[RunningServer]:
    with RunningServer([spec(path, context=2048)], ServerSettings()) as running:
        yield running


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[nextn.Model]:
    with nextn.load(path, threads=1, context=2048) as model:
        yield model


def ask(server: RunningServer, **fields: Any) -> Any:
    body = {
        "model": "tiny",
        "messages": MESSAGES,
        "max_tokens": 90,
        "seed": 5,
        "temperature": 1.0,
        "thinking": {"type": "enabled", "budget_tokens": BUDGET},
        **fields,
    }
    answer = server.post("/v1/messages", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def expected_texts(model: nextn.Model, temperature: float) -> tuple[str, str]:
    """Reasoning and answer, each written without any limit but `max_tokens`."""
    settings: dict[str, Any] = {"temperature": temperature, "seed": 5, "draft": "off"}
    prompt = model.chat_prompt(MESSAGES)
    thought = model.generate(prompt, max_tokens=BUDGET, **settings)
    assert thought.finish_reason == "length"
    mark = model.tokenizer.encode("</think>", add_special=False)
    left = 90 - BUDGET - len(mark)
    prompt = [*prompt, *thought.tokens, *mark]
    return thought.text, model.generate(prompt, max_tokens=left, **settings).text


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("mtp", ["off", "auto", 1, 3, 8])
def test_the_model_is_made_to_answer_when_the_budget_is_used_up(
    server: RunningServer, model: nextn.Model, mtp: str | int, temperature: float
) -> None:
    thought, text = expected_texts(model, temperature)
    answer = ask(server, mtp=mtp, temperature=temperature)
    thinking, said = answer["content"]
    assert thinking["thinking"].strip() == thought.strip()
    assert said["text"] == text.lstrip()
    assert answer["usage"]["output_tokens"] <= 90
    if mtp == 3:
        assert answer["timings"]["draft_n_accepted"] > 0


def test_a_budget_that_is_not_used_up_changes_nothing(
    server: RunningServer, model: nextn.Model
) -> None:
    settings = {"temperature": 1.0, "seed": 5, "max_tokens": 90}
    whole = model.generate(model.chat_prompt(MESSAGES), **settings).text
    answer = ask(server, thinking={"type": "enabled", "budget_tokens": 5000})
    (thinking,) = answer["content"]
    assert thinking["thinking"].strip() == whole.strip()


@pytest.mark.parametrize("mtp", ["off", 3])
def test_a_tool_is_called_after_the_budget(server: RunningServer, mtp: str | int) -> None:
    answer = ask(
        server,
        tools=[{"name": "set_light", "input_schema": PARAMETERS}],
        tool_choice={"type": "any"},
        max_tokens=400,
        mtp=mtp,
    )
    kinds = [block["type"] for block in answer["content"]]
    assert kinds == ["thinking", "tool_use"]
    assert type(answer["content"][1]["input"]["on"]) is bool


@pytest.mark.parametrize(("budget", "thinks"), [(0, False), (BUDGET, True), (-1, True)])
def test_openai_chats_have_llama_cpps_field(
    server: RunningServer, model: nextn.Model, budget: int, thinks: bool
) -> None:
    body = {
        "model": "tiny",
        "messages": MESSAGES,
        "max_tokens": 60,
        "seed": 5,
        "temperature": 1.0,
        "thinking_budget_tokens": budget,
    }
    answer = server.post("/v1/chat/completions", body).json()
    message = answer["choices"][0]["message"]
    assert bool(message.get("reasoning_content")) == thinks
    assert bool(message["content"]) == (budget >= 0)
    if budget == BUDGET:
        thought, _ = expected_texts(model, 1.0)
        assert message["reasoning_content"].strip() == thought.strip()


@pytest.mark.parametrize("budget", [-2, 1.5, "much"])
def test_other_budgets_are_refused(server: RunningServer, budget: Any) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "thinking_budget_tokens": budget}
    answer = server.post("/v1/chat/completions", body)
    assert answer.status_code == 400
    assert json.loads(answer.text)["error"]["param"] == "thinking_budget_tokens"
