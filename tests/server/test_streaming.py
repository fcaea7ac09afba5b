"""Slow prompts, slow readers, and clients that leave; full queues and broken steps."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from nextn.server import openai_chat, openai_completions
from nextn.server.models import LoadedModel
from nextn.server.state import ServerSettings
from nextn.server.streaming import merge, sse
from tests.server.conftest import RunningServer, spec

BODY: dict[str, Any] = {"prompt": "a", "temperature": 0, "max_tokens": 5, "ignore_eos": True}


@pytest.fixture(scope="module")
def pinging(tiny_path: Path) -> Iterator[RunningServer]:
    """A server of two slots and a short queue that pings all the time."""
    settings = ServerSettings(ping_seconds=0.01, max_waiting=1)
    with RunningServer([spec(tiny_path, max_sequences=2)], settings) as running:
        yield running


def loaded(server: RunningServer) -> LoadedModel:
    return server.server.models.loaded["tiny"]


@contextmanager
def held(server: RunningServer) -> Iterator[None]:
    """No step is run within it."""
    release = threading.Event()
    holding = threading.Event()

    def hold(_: object) -> None:
        holding.set()
        release.wait(120)

    call = asyncio.run_coroutine_threadsafe(loaded(server).engine.call(hold), server.loop)
    assert holding.wait(120)
    try:
        yield
    finally:
        release.set()
        call.result(120)


def wait_until_idle(server: RunningServer) -> None:
    for _ in range(20_000):
        engine = loaded(server).engine
        if not (engine.running or engine.waiting or loaded(server).leases):
            return
        server.get("/health")
    raise AssertionError("a text goes on without a reader")


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_stream_without_news_is_kept_alive(pinging: RunningServer, path: str) -> None:
    body: dict[str, Any] = {**BODY, "stream": True, "messages": [{"role": "user", "content": "a"}]}
    with held(pinging):
        connection = httpx.stream("POST", pinging.url + path, json=body, timeout=120)
        with connection as response:
            lines = response.iter_lines()
            assert response.headers["content-type"].startswith("text/event-stream")
            assert ": ping" in (next(lines) for _ in range(50))
    wait_until_idle(pinging)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_while_its_text_waits_is_forgotten(
    pinging: RunningServer, stream: bool
) -> None:
    body = json.dumps({**BODY, "stream": stream}).encode()
    host, port = pinging.url.removeprefix("http://").split(":")
    with held(pinging):
        with socket.create_connection((host, int(port))) as connection:
            head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % len(body) + body)
            while not loaded(pinging).engine.waiting:
                pinging.get("/health")
        while loaded(pinging).leases:
            pinging.get("/health")
    wait_until_idle(pinging)


def test_more_than_the_queue_holds_is_refused(pinging: RunningServer) -> None:
    with held(pinging):
        answer: list[httpx.Response] = []
        body = {**BODY, "n": 3}
        thread = threading.Thread(
            target=lambda: answer.append(pinging.post("/v1/completions", body))
        )
        thread.start()
        while loaded(pinging).engine.waiting < 3:
            pinging.get("/health")
        refused = pinging.post("/v1/completions", BODY)
    thread.join()
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert refused.json()["error"]["code"] == "server_busy"
    assert answer[0].status_code == 200
    assert pinging.post("/v1/completions", BODY).status_code == 200


def test_a_reader_that_stops_holds_up_nobody_and_loses_nothing(server: RunningServer) -> None:
    body = json.dumps({**BODY, "stream": True, "n": 32, "max_tokens": 200}).encode()
    host, port = server.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(120)
        connection.connect((host, int(port)))
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        connection.recv(100)
        answer = server.post("/v1/completions", BODY).json()
        assert answer["usage"]["completion_tokens"] == 5
        # Its texts are written, too, although nobody reads them.
        while loaded(server).engine.running:
            server.get("/health")
        received = b""
        while more := connection.recv(1 << 16):
            received += more
    assert received.count(b'"finish_reason":"length"') == 32
    assert b"data: [DONE]" in received


@pytest.mark.parametrize("stream", [True, False])
def test_a_step_that_fails_is_an_error_of_its_requests_alone(
    server: RunningServer, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = loaded(server).model.executor
    step = type(executor).step

    def fail(*_: object) -> None:
        monkeypatch.setattr(type(executor), "step", step)
        raise RuntimeError("secret address 0x7f")

    monkeypatch.setattr(type(executor), "step", fail)
    response = server.post("/v1/completions", {**BODY, "stream": stream})
    assert "RuntimeError" in response.text
    assert "0x7f" not in response.text
    if stream:
        error = json.loads(response.text.split("data: ")[1])["error"]
        assert "[DONE]" not in response.text
    else:
        assert response.status_code == 500
        error = response.json()["error"]
    assert error["type"] == "server_error"
    assert server.post("/v1/completions", BODY).status_code == 200
    wait_until_idle(server)


def test_logits_that_allow_no_token_are_an_error_of_one_request(server: RunningServer) -> None:
    vocabulary = loaded(server).model.tokenizer.vocab_size
    banned = {str(token): False for token in range(vocabulary)}
    response = server.post("/v1/completions", {**BODY, "logit_bias": banned})
    assert response.status_code == 400
    assert "logit_bias" in response.json()["error"]["message"]


def test_what_nobody_foresaw_in_a_stream_is_logged_once(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(openai_completions._Answers, "_piece", fail)
    for stream in (True, False):
        caplog.clear()
        answer = server.post("/v1/completions", {**BODY, "stream": stream}).text
        assert "internal error" in answer
        assert "a defect" not in answer
        assert caplog.text.count("ValueError: a defect") == 1
    wait_until_idle(server)


def test_counts_that_fail_keep_no_model(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(server.server, "text_ended", fail)
    server.post("/v1/completions", BODY)
    wait_until_idle(server)


class Reader:
    """Numbers, one per call, and then what it is told: an end or an exception."""

    def __init__(self, numbers: int, end: Exception | None = None) -> None:
        self.left = numbers
        self.end = end
        self.cancelled = False

    async def read(self) -> int | None:
        try:
            await asyncio.sleep(3600 if self.left < 0 else 0)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        self.left -= 1
        if self.left >= 0:
            return self.left
        if self.end is not None:
            raise self.end
        return None


def run_quietly(test: Coroutine[Any, Any, None]) -> None:
    """Runs it, and checks that asyncio has nothing to say about tasks that nobody looked at."""
    said: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        await test
        gc.collect()

    asyncio.run(main())
    assert not said


def test_several_readers_are_read_to_their_ends() -> None:
    async def test() -> None:
        readers = [Reader(3), Reader(0), Reader(2)]
        items = [item async for item in merge([reader.read for reader in readers])]
        assert sorted(items) == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1)]
        for index in (0, 2):
            mine = [number for reader, number in items if reader == index]
            assert mine == sorted(mine, reverse=True)

    run_quietly(test())


def test_a_reader_that_fails_ends_all_and_leaves_no_task() -> None:
    async def test() -> None:
        # The second and the third fail at once; the first waits for ever.
        readers = [Reader(-1), Reader(1, ValueError("one")), Reader(1, ValueError("two"))]
        merged = merge([reader.read for reader in readers])
        assert [await anext(merged), await anext(merged)] == [(1, 0), (2, 0)]
        with pytest.raises(ValueError, match="one"):
            await anext(merged)
        assert readers[0].cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_quietly(test())


def test_readers_that_nobody_reads_any_more_are_cancelled() -> None:
    async def test() -> None:
        readers = [Reader(-1), Reader(5), Reader(1, ValueError("lost"))]
        merged = merge([reader.read for reader in readers])
        assert await anext(merged) == (1, 4)
        await asyncio.sleep(0.01)
        await merged.aclose()
        assert readers[0].cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_quietly(test())


@pytest.mark.parametrize(
    ("path", "module", "method"),
    [
        ("/v1/completions", openai_completions, "_piece"),
        ("/v1/chat/completions", openai_chat, "_chunks"),
    ],
)
def test_a_choice_that_fails_ends_the_others_before_its_error_is_sent(
    server: RunningServer, path: str, module: Any, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases: list[int] = []

    def note(value: Any) -> bytes:
        leases.append(loaded(server).leases)
        return sse(value)

    def fail(*_: object) -> Any:
        raise ValueError("a defect")

    monkeypatch.setattr(module, "sse", note)
    monkeypatch.setattr(module._Answers, method, fail)
    body = {**BODY, "n": 4, "stream": True, "messages": [{"role": "user", "content": "a"}]}
    assert "internal error" in server.post(path, body).text
    assert leases[-1] == 0
    wait_until_idle(server)
