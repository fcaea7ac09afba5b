from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.bench.serve import Answer, Client, ServerError
from nextn.bench.serve.client import _decode
from nextn.errors import RequestError
from tests.support.chat_server import Script, running, scripted_app

STEPS = ((("One", "trunk"),), ((" two", "head"), (" thréé", "trunk")))
TEXT = "One two thréé"


def event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def chunk(**delta: str | None) -> bytes:
    return event({"choices": [{"index": 0, "delta": delta}], "usage": None})


STREAM = b"".join(
    (
        b": ping\n\n",
        chunk(role="assistant", content=""),
        chunk(reasoning_content="Hmm. "),
        chunk(content="Grüße"),
        chunk(content=None),
        event({"choices": [], "usage": {"completion_tokens": 7}}),
        b"data: [DONE]\n\n",
    )
)


def test_the_times_of_an_answer_are_those_of_its_definitions() -> None:
    answer = Answer(sent=10.0, arrived=(10.5, 10.75, 11.5), text="abc", tokens=6)
    assert answer.ttft == 0.5
    assert answer.tpot == 1.0 / 5
    assert answer.itl == [0.25, 0.75]
    assert answer.e2e == 1.5
    assert Answer(sent=1.0, arrived=(2.0,), tokens=1).tpot is None


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_an_answer_does_not_depend_on_where_its_stream_is_cut(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(STREAM)]
    pieces = [(float(n), STREAM[a:b]) for n, (a, b) in enumerate(pairwise(bounds))]
    answer = _decode(-1.0, pieces)
    assert (answer.error, answer.text, answer.tokens) == (None, "Hmm. Grüße", 7)
    assert len(answer.arrived) == 2
    assert list(answer.arrived) == sorted(answer.arrived)


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"", "the stream ended before the answer"),
        (STREAM[:-16], "the stream ended before the answer"),
        (chunk(role="assistant") + b"data: [DONE]\n\n", "the answer has no text"),
        (event({"error": {"message": "too bad"}}) + STREAM, "too bad"),
        (b"data: {\n\n" + STREAM, "an event that is none of chat"),
        (event({"choices": 3}) + STREAM, "an event that is none of chat"),
        (b"data: []\n\n" + STREAM, "an event that is none of chat"),
    ],
)
def test_a_broken_stream_is_an_answer_with_an_error(stream: bytes, error: str) -> None:
    answer = _decode(0.0, [(1.0, stream)])
    assert answer.error is not None
    assert error in answer.error


def test_pieces_count_as_tokens_where_the_server_does_not_say() -> None:
    stream = chunk(content="a") + chunk(content="b") + b"data: [DONE]\n\n"
    assert _decode(0.0, [(1.0, stream)]).tokens == 2


def test_a_server_is_asked() -> None:
    script = Script(steps=STEPS)
    with running(scripted_app(script)) as url:
        client = Client(f"{url}v1/", model="other")
        answer = client.ask([{"role": "user", "content": "Hi"}], max_tokens=5)
        assert (answer.error, answer.text, answer.tokens) == (None, TEXT, 3)
        assert answer.sent < answer.arrived[0] <= answer.arrived[-1]
        assert script.requests[0]["model"] == "other"
        assert script.requests[0]["max_tokens"] == 5
        script.error = (503, "busy")
        assert client.ask([{"role": "user", "content": "Hi"}]).error == "status 503: busy"


def test_a_key_is_sent() -> None:
    with running(scripted_app(Script(api_key="secret"))) as url:
        assert Client(url, key="secret").model == "tiny"
        with pytest.raises(ServerError, match="status 401: wrong key"):
            Client(url)


def test_unusable_servers_are_refused() -> None:
    for url in ("localhost:8080", "ftp://a", "http://", "http://a:99999999", "nothing"):
        with pytest.raises(RequestError, match="is no address such as"):
            Client(url)
    with pytest.raises(ServerError, match="cannot be reached"):
        Client("http://127.0.0.1:1")
    with running(scripted_app(Script())) as url:
        with pytest.raises(ServerError, match="has no model 'large'; it has tiny, other"):
            Client(url, model="large")
        with pytest.raises(ServerError, match="status 404"):
            Client(f"{url}elsewhere")
