"""What a model writes, through every API: reasoning, text and calls.

The model is random; a grammar that allows one text alone makes it write that text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import ollama
import openai
import pytest

import nextn.server.chat
from nextn.grammar import Specification
from nextn.server.state import ServerSettings
from tests.server.conftest import RunningServer, spec
from tests.support.tiny_gguf import CHATML_TEMPLATE, write_tiny_model

MESSAGES: list[Any] = [{"role": "user", "content": "Is it light in the box?"}]
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "room": {"type": "string"}},
}
FUNCTION: dict[str, Any] = {"name": "set_light", "description": "", "parameters": PARAMETERS}
CALL = (
    '<tool_call>\n{"name": "set_light", "arguments": {"on": true, "room": "b\\"x"}}\n</tool_call>'
)
ARGUMENTS = {"on": True, "room": 'b"x'}

Outcome = tuple[str, str, list[tuple[str, Any]], str]
"""Reasoning, text, calls, and why the answer ended."""

ENDS = {
    "stop": "stop",
    "tool_calls": "calls",
    "end_turn": "stop",
    "tool_use": "calls",
    "completed": "stop",
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a model whose template has the marks of Hermes and of reasoning."""
    path = tmp_path_factory.mktemp("scripted") / "tiny.gguf"
    template = CHATML_TEMPLATE + "{# <think></think> <tool_call> #}"
    write_tiny_model(path, "llama", context_length=2048, chat_template=template)
    with RunningServer([spec(path, context=2048)], ServerSettings()) as running:
        yield running


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Decides what the model writes."""

    def write(text: str) -> None:
        rule = Specification("lark", f"start: {json.dumps(text)}", "test")

        def constraint(model: Any, *_: object, **__: object) -> Any:
            return model.grammars.compile(rule)

        monkeypatch.setattr(nextn.server.chat, "chat_constraint", constraint)

    return write


def ask_openai(url: str, stream: bool, tools: bool) -> Outcome:
    given: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]} if tools else {}
    with openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0) as client:
        if stream:
            with client.chat.completions.stream(model="tiny", messages=MESSAGES, **given) as events:
                chunks = [event.chunk for event in events if event.type == "chunk"]
                choice: Any = events.get_final_completion().choices[0]
            reasoning = "".join(
                (each.choices[0].delta.model_extra or {}).get("reasoning_content", "")
                for each in chunks
                if each.choices
            )
        else:
            choice = client.chat.completions.create(
                model="tiny", messages=MESSAGES, **given
            ).choices[0]
            reasoning = (choice.message.model_extra or {}).get("reasoning_content", "")
    calls = [
        (each.function.name, json.loads(each.function.arguments))
        for each in choice.message.tool_calls or ()
    ]
    return reasoning, choice.message.content or "", calls, ENDS[choice.finish_reason]


def ask_responses(url: str, stream: bool, tools: bool) -> Outcome:
    given: dict[str, Any] = {"tools": [{"type": "function", **FUNCTION}]} if tools else {}
    with openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0) as client:
        if stream:
            events = list(
                client.responses.create(model="tiny", input=MESSAGES, stream=True, **given)
            )
            answer: Any = events[-1].response  # type: ignore[union-attr]
        else:
            answer = client.responses.create(model="tiny", input=MESSAGES, **given)
    reasoning, text, calls = "", "", []
    for item in answer.output:
        if item.type == "reasoning":
            reasoning += "".join(part.text for part in item.content)
        elif item.type == "message":
            text += "".join(part.text for part in item.content)
        else:
            calls.append((item.name, json.loads(item.arguments)))
    return reasoning, text, calls, "calls" if calls else ENDS[answer.status]


def ask_anthropic(url: str, stream: bool, tools: bool) -> Outcome:
    tool = {"name": FUNCTION["name"], "input_schema": PARAMETERS}
    given: dict[str, Any] = {"tools": [tool]} if tools else {}
    given |= {"model": "tiny", "messages": MESSAGES, "max_tokens": 1000}
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        if stream:
            with client.messages.stream(**given) as events:
                answer: Any = events.get_final_message()
        else:
            answer = client.messages.create(**given)
    reasoning = "".join(each.thinking for each in answer.content if each.type == "thinking")
    text = "".join(each.text for each in answer.content if each.type == "text")
    calls = [(each.name, each.input) for each in answer.content if each.type == "tool_use"]
    return reasoning, text, calls, ENDS[answer.stop_reason]


def ask_ollama(url: str, stream: bool, tools: bool) -> Outcome:
    client = ollama.Client(host=url)
    given: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}]} if tools else {}
    answer = client.chat("tiny", MESSAGES, stream=stream, **given)
    pieces = list(answer) if stream else [answer]
    reasoning = "".join(each.message.thinking or "" for each in pieces)
    text = "".join(each.message.content or "" for each in pieces)
    calls = [
        (call.function.name, dict(call.function.arguments))
        for each in pieces
        for call in each.message.tool_calls or ()
    ]
    return reasoning, text, calls, "calls" if calls else ENDS[pieces[-1].done_reason]


APIS = [ask_openai, ask_responses, ask_anthropic, ask_ollama]
EACH = pytest.mark.parametrize("ask", APIS, ids=lambda ask: ask.__name__)
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@EACH
@BOTH
def test_reasoning_text_and_calls_are_told_apart(
    scripted: RunningServer, write: Callable[[str], None], ask: Any, stream: bool
) -> None:
    write(f"<think>\nA box is dark.\n</think>\n\nI switch it on.\n{CALL}\n{CALL}")
    expected = ("A box is dark.", "I switch it on.", [("set_light", ARGUMENTS)] * 2, "calls")
    assert ask(scripted.url, stream, True) == expected


@EACH
@BOTH
def test_without_tools_a_call_is_text(
    scripted: RunningServer, write: Callable[[str], None], ask: Any, stream: bool
) -> None:
    write(f"See: {CALL}")
    assert ask(scripted.url, stream, False) == ("", f"See: {CALL}", [], "stop")


@pytest.mark.parametrize("ask", [ask_anthropic, ask_ollama], ids=["anthropic", "ollama"])
def test_a_call_that_breaks_off_is_text_where_calls_are_whole(
    scripted: RunningServer, write: Callable[[str], None], ask: Any
) -> None:
    broken = '<tool_call>\n{"name": "set_light", "arguments": {"on": tru}}\n</tool_call>'
    write(f"So: {broken}")
    assert ask(scripted.url, False, True) == ("", f"So: {broken}", [], "stop")


def test_one_call_is_enough_if_only_one_may_be(
    scripted: RunningServer, write: Callable[[str], None]
) -> None:
    write(f"{CALL}\n{CALL}\nDone.")
    body = {
        "model": "tiny",
        "messages": MESSAGES,
        "tools": [{"type": "function", "function": FUNCTION}],
        "parallel_tool_calls": False,
    }
    choice = scripted.post("/v1/chat/completions", body).json()["choices"][0]
    assert len(choice["message"]["tool_calls"]) == 1
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"
    streamed = scripted.post("/v1/chat/completions", {**body, "stream": True}).text
    chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line[:7] == "data: {"]
    reasons = [each["finish_reason"] for chunk in chunks for each in chunk["choices"]]
    assert [reason for reason in reasons if reason is not None] == ["tool_calls"]


def test_no_tool_is_called_if_none_may_be(
    scripted: RunningServer, write: Callable[[str], None]
) -> None:
    write(CALL)
    body = {
        "model": "tiny",
        "messages": MESSAGES,
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": "none",
    }
    message = scripted.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert message["content"] == CALL
    assert "tool_calls" not in message


@pytest.mark.parametrize("mtp", ["auto", "off", 5])
def test_the_same_seeded_text_comes_through_every_api(wide_server: RunningServer, mtp: Any) -> None:
    system = {"role": "system", "content": "Be brief."}
    chat = {"model": "tiny", "messages": [system, *MESSAGES], "stream": False}
    options = {"temperature": 1.0, "seed": 11, "mtp": mtp}
    openai_chat = wide_server.post("/v1/chat/completions", {**chat, **options, "max_tokens": 90})
    text = openai_chat.json()["choices"][0]["message"]["content"]
    assert len(text) > 20
    responses = wide_server.post(
        "/v1/responses",
        {"model": "tiny", "input": [system, *MESSAGES], **options, "max_output_tokens": 90},
    )
    assert responses.json()["output"][0]["content"][0]["text"] == text
    messages = wide_server.post(
        "/v1/messages",
        {"model": "tiny", "system": system["content"], "messages": MESSAGES, **options}
        | {"max_tokens": 90},
    )
    assert messages.json()["content"][0]["text"] == text
    in_options = {"options": {**options, "num_predict": 90}}
    assert (
        wide_server.post("/api/chat", {**chat, **in_options}).json()["message"]["content"] == text
    )
    generate = {"model": "tiny", "prompt": MESSAGES[0]["content"], "system": system["content"]}
    generate |= {"stream": False}
    assert wide_server.post("/api/generate", {**generate, **in_options}).json()["response"] == text
