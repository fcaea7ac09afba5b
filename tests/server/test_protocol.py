"""Clients that do not take what was written to them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from nextn.server.protocol import web_config
from nextn.server.state import ServerSettings
from tests.server.conftest import RunningServer, spec
from tests.server.test_streaming import BODY, loaded, wait_until_idle

SECONDS = 60.0


class Clock:
    """A loop whose time stands still unless it is told to pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[Call] = []

    def call_later(self, seconds: float, function: Callable[..., None], *arguments: Any) -> Call:
        self.calls.append(Call(self.now + seconds, lambda: function(*arguments)))
        return self.calls[-1]

    def create_task(self, coroutine: Any) -> asyncio.Future[None]:
        coroutine.close()
        return asyncio.Future(loop=asyncio.new_event_loop())

    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while due := [call for call in self.calls if call.at <= end and not call.cancelled]:
            first = min(due, key=lambda call: call.at)
            self.calls.remove(first)
            self.now = first.at
            first.function()
        self.now = end


class Call:
    """What is to be called when its time has come."""

    def __init__(self, at: float, function: Callable[[], None]) -> None:
        self.at = at
        self.function = function
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Transport:
    """A connection with so many bytes that wait for the client."""

    def __init__(self) -> None:
        self.waiting = 0
        self.closing = False
        self.aborted = False

    def get_extra_info(self, _: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def write(self, data: bytes) -> None:
        self.waiting += len(data)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = self.closing = True


class Connection:
    """A connection on which a request was made."""

    def __init__(self, version: bytes = b"1.1") -> None:
        async def app(scope: object, receive: object, send: object) -> None: ...

        config = web_config(app, write_seconds=SECONDS, lifespan="off")
        config.load()
        self.clock: Any = Clock()
        self.transport: Any = Transport()
        state = uvicorn.server.ServerState()
        make: Any = config.http_protocol_class
        self.protocol = make(config=config, server_state=state, app_state={}, _loop=self.clock)
        self.protocol.connection_made(self.transport)
        self.request(version)

    def request(self, version: bytes = b"1.1") -> None:
        self.protocol.data_received(b"GET / HTTP/%b\r\nHost: localhost\r\n\r\n" % version)

    def send(self, message: dict[str, Any]) -> None:
        asyncio.run(self.protocol.cycle.send(message))

    def begin(self) -> None:
        self.send({"type": "http.response.start", "status": 200, "headers": []})

    def finish(self) -> None:
        self.send({"type": "http.response.body", "body": b"end"})

    def fill(self) -> None:
        """More is written than the system takes."""
        self.transport.waiting = 70_000
        self.protocol.pause_writing()


def assert_left_after(connection: Connection, seconds: float) -> None:
    connection.clock.wait(seconds - 1)
    assert not connection.transport.aborted
    connection.clock.wait(1)
    assert connection.transport.aborted


@pytest.fixture
def connection() -> Connection:
    connection = Connection()
    connection.begin()
    return connection


def test_a_client_that_takes_nothing_is_left(connection: Connection) -> None:
    connection.fill()
    assert_left_after(connection, SECONDS)


def test_a_client_that_takes_little_at_a_time_is_served(connection: Connection) -> None:
    connection.fill()
    for _ in range(50):
        connection.clock.wait(SECONDS - 1)
        connection.transport.waiting -= 1
    assert not connection.transport.aborted
    connection.clock.wait(2 * SECONDS)
    assert connection.transport.aborted


def test_writing_goes_on_when_the_client_reads_again(connection: Connection) -> None:
    connection.fill()
    connection.clock.wait(SECONDS / 2)
    connection.transport.waiting = 10_000
    connection.protocol.resume_writing()
    # More is written than was there before.
    connection.transport.waiting = 65_000
    connection.clock.wait(10 * SECONDS)
    assert not connection.transport.aborted
    connection.fill()
    assert_left_after(connection, SECONDS)


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_end_of_an_answer_must_be_taken(version: bytes) -> None:
    connection = Connection(version)
    connection.begin()
    connection.finish()
    assert 0 < connection.transport.waiting < 65_536
    connection.clock.wait(SECONDS)
    assert connection.transport.aborted


def test_an_answer_that_was_taken_leaves_a_connection_for_the_next(connection: Connection) -> None:
    connection.finish()
    connection.transport.waiting = 0
    connection.request()
    connection.clock.wait(SECONDS - 1)
    connection.begin()
    connection.clock.wait(SECONDS)
    assert not connection.transport.closing


def test_a_connection_that_was_lost_is_not_watched(connection: Connection) -> None:
    connection.fill()
    connection.protocol.connection_lost(OSError())
    assert all(call.cancelled for call in connection.clock.calls)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_text_that_is_not_read_is_cancelled_and_others_go_on(wide_path: Path, path: str) -> None:
    settings = ServerSettings(write_seconds=2.0)
    with RunningServer([spec(wide_path, context=4096)], settings) as server:
        # Small buffers of the system, so that few bytes wait there.
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        # Much is said of each token.
        options = {"max_tokens": 4000, "n": 4, "nextn": {"tokens": True}, "stream": True}
        messages = [{"role": "user", "content": "a"}]
        body = json.dumps({**BODY, **options, "messages": messages}).encode()
        host, port = server.url.removeprefix("http://").split(":")
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(120)
            connection.connect((host, int(port)))
            head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % (path.encode(), len(body)) + body)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
            answers = 0
            while loaded(server).leases:
                answer = server.post("/v1/completions", BODY).json()
                assert answer["usage"]["completion_tokens"] == 5
                answers += 1
                assert answers < 4_000
            assert answers
            wait_until_idle(server)
            # The connection has ended in the middle of the answer.
            received = b""
            while more := connection.recv(1 << 16):
                received += more
            assert received
            assert not received.endswith(b"0\r\n\r\n")
