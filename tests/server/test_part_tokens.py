"""Which tokens the text of an answer is made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nextn
from nextn.engine.events import Token
from nextn.server.part_tokens import PartTokens
from nextn.server.state import ServerSettings
from nextn.text.dialects import Delta, Mark, Reasoning, Text
from tests.server.conftest import RunningServer, spec
from tests.support.tiny_gguf import CHATML_TEMPLATE, write_tiny_model
from tests.support.tiny_tokenizers import CONTROL, byte_level_bpe

KINDS = (Text, Reasoning, Mark)


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 5)), max_size=8),
    st.lists(st.integers(0, 4), max_size=40),
    st.data(),
)
def test_a_piece_of_text_has_the_tokens_that_reach_into_it(
    kinds: list[tuple[Any, int]], sizes: list[int], data: st.DataObject
) -> None:
    total = sum(size for _, size in kinds)
    tokens: list[Token] = []
    owners: list[int] = []  # of each character, the token it came with
    for size in [*sizes, total]:
        size = min(size, total - len(owners))
        owners += [len(tokens)] * size
        tokens.append(Token("x" * size, len(tokens), 0))
    wanted: list[list[int]] = []
    given_before = -1
    place = 0
    for kind, size in kinds:
        own = owners[place : place + size] if kind is Text else []
        place += size
        # Silent tokens come with the next that has text.
        last = max(own, default=-1)
        first = next((i for i in sorted(set(own)) if i > given_before), None)
        if first is None:
            wanted.append([])
            continue
        while first > 0 and not tokens[first - 1].text:
            first -= 1
        wanted.append([*range(first, last + 1)])
        given_before = last
    parts: list[Delta] = [kind("x" * size) for kind, size in kinds]
    # Parts come as soon as their tokens are there, or later.
    finder = PartTokens()
    found: list[list[int]] = []
    told = written = 0
    for token in tokens:
        finder.add([token])
        written += len(token.text)
        while (
            len(found) < len(parts)
            and told + len(parts[len(found)].source) <= written
            and (written == total or data.draw(st.booleans()))
        ):
            part = parts[len(found)]
            told += len(part.source)
            found.append([each.id for each in finder.of(part)])
    assert found == wanted


TEMPLATE = CHATML_TEMPLATE.replace("assistant\\n' }}", "assistant\\n<think>' }}") + "{# </think> #}"
INPUT = "Is it light in the box?"
SETTINGS: dict[str, Any] = {"temperature": 1.0, "seed": 3}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that thinks, and ends its thoughts with one token."""
    metadata = byte_level_bpe(320, pre="smollm", chat_template=TEMPLATE)
    tokens = list(metadata["tokenizer.ggml.tokens"])
    types = list(metadata["tokenizer.ggml.token_type"])
    tokens[-1], types[-1] = "</think>", CONTROL
    path = tmp_path_factory.mktemp("thinking") / "tiny.gguf"
    write_tiny_model(
        path,
        "llama",
        context_length=4096,
        chat_template=TEMPLATE,
        metadata={"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types},
    )
    return path


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[RunningServer]:
    with RunningServer([spec(path, context=4096)], ServerSettings()) as running:
        yield running


@pytest.fixture(scope="module")
def written(path: Path) -> tuple[list[float | None], int]:
    """The log probabilities of the tokens of the answer's text, and how many tokens there are."""
    with nextn.load(path, threads=1, context=4096) as model:
        prompt = model.chat_prompt([{"role": "user", "content": INPUT}])
        whole = model.generate(prompt, max_tokens=3000, logprobs=0, **SETTINGS)
        (mark,) = model.tokenizer.encode("</think>", add_special=False, parse_special=True)
    behind = whole.events[whole.tokens.index(mark) + 1 :]
    while not behind[0].text.strip():
        behind = behind[1:]
    expected = [token.logprob for token in behind if token.id not in model.tokenizer.special]
    assert 5 < len(expected) < len(whole.tokens) - 5
    return expected, len(whole.tokens)


def test_logprobs_of_a_response_are_those_of_its_text(
    server: RunningServer, written: tuple[list[float | None], int]
) -> None:
    body = {
        "model": "tiny",
        "input": INPUT,
        "max_output_tokens": 3000,
        "include": ["message.output_text.logprobs"],
        **SETTINGS,
    }
    reasoning, message = server.post("/v1/responses", body).json()["output"]
    assert reasoning["type"] == "reasoning"
    assert [each["logprob"] for each in message["content"][0]["logprobs"]] == written[0]


def chat_body(**fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": INPUT}]
    return {"messages": messages, "max_tokens": 3000, "logprobs": True, **SETTINGS, **fields}


def test_logprobs_of_a_chat_are_those_of_its_content(
    server: RunningServer, written: tuple[list[float | None], int]
) -> None:
    (choice,) = server.post("/v1/chat/completions", chat_body()).json()["choices"]
    assert len(choice["message"]["reasoning_content"]) > 20
    content = choice["logprobs"]["content"]
    assert [each["logprob"] for each in content] == written[0]
    spelled = b"".join(bytes(each["bytes"]) for each in content).decode(errors="replace")
    assert spelled.strip() == choice["message"]["content"].strip()


def test_streamed_logprobs_come_with_the_content_of_their_tokens(
    server: RunningServer, written: tuple[list[float | None], int]
) -> None:
    asked = chat_body(stream=True, nextn={"tokens": True})
    answer = server.post("/v1/chat/completions", asked).text
    events = [line[6:] for line in answer.split("\n\n") if line[6:] not in ("", "[DONE]")]
    chunks = [json.loads(event) for event in events]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    given = [each for each in choices if each.get("logprobs")]
    assert all(each["delta"]["content"] for each in given)
    numbers = [token["logprob"] for each in given for token in each["logprobs"]["content"]]
    assert numbers == written[0]
    # Whoever asks for all tokens gets those of the reasoning, too.
    tokens = [token for chunk in chunks for token in chunk.get("nextn", {}).get("tokens", [])]
    assert len(tokens) == written[1]


def test_logprobs_of_ollama_are_those_of_all_tokens(
    server: RunningServer, written: tuple[list[float | None], int]
) -> None:
    options = {"num_predict": 3000, **SETTINGS}
    body = chat_body(model="tiny", options=options, stream=False)
    answer = server.post("/api/chat", body).json()
    assert answer["message"]["thinking"]
    assert len(answer["logprobs"]) > written[1] - 2 > len(written[0])
