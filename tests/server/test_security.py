from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from nextn.engine import GenerationRequest
from nextn.engine.async_engine import AsyncTokenStream
from nextn.errors import RequestError
from nextn.server.security import is_loopback, make_security
from nextn.server.state import ServerSettings
from tests.server.conftest import RunningServer, spec

KEYS = ("first-key-1", "second-key-2")


@pytest.fixture(scope="module")
def guarded(tiny_path: Path):  # type: ignore[no-untyped-def]
    security = make_security(
        host="127.0.0.1",
        keys=KEYS,
        hosts=["llm.example"],
        origins=["http://localhost:3000"],
    )
    settings = ServerSettings(max_body=2000)
    with RunningServer([spec(tiny_path)], settings, security=security) as running:
        yield running


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-key-1"},
        {"authorization": "bearer second-key-2"},
        {"X-Api-Key": "second-key-2"},
    ],
)
def test_any_key_lets_a_request_in(guarded: RunningServer, headers: dict[str, str]) -> None:
    assert guarded.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer first-key-2"},
        {"Authorization": "Basic first-key-1"},
        {"Authorization": "first-key-1"},
        {"X-Api-Key": "first-key-1 "[:-2]},
        {"X-Api-Key": "é"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/slots", "/props", "/nothing"])
def test_without_a_key_nothing_is_said(
    guarded: RunningServer, headers: dict[str, str], path: str
) -> None:
    raw = {name: value.encode() for name, value in headers.items()}
    response = guarded.get(path, headers=raw)
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"
    assert response.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(guarded: RunningServer) -> None:
    assert guarded.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "api.localhost",
        "127.0.0.1:9",
        "[::1]:8080",
        "192.168.1.5",
        "llm.example:8080",
        socket.gethostname(),
    ],
)
def test_names_of_the_machine_are_hosts(server: RunningServer, guarded: RunningServer, host: str):  # type: ignore[no-untyped-def]
    assert guarded.get("/health", headers={"Host": host}).status_code == 200
    expected = 403 if host.startswith("llm") else 200
    assert server.get("/health", headers={"Host": host}).status_code == expected


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "a b", "", "x:y"]
)
def test_other_names_are_refused(server: RunningServer, host: str) -> None:
    response = server.get("/health", headers={"Host": host})
    assert response.status_code == 403
    assert response.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost:3000", "x"])
def test_pages_from_elsewhere_are_refused(guarded: RunningServer, origin: str) -> None:
    headers = {"Origin": origin, "X-Api-Key": KEYS[0]}
    response = guarded.post("/v1/chat/completions", {}, headers=headers)
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_a_page_of_the_server_itself_may_ask(server: RunningServer) -> None:
    response = server.get("/v1/models", headers={"Origin": server.url})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


def test_a_listed_origin_may_ask_and_preflight(guarded: RunningServer) -> None:
    origin = "http://localhost:3000"
    headers = {"Origin": origin, "X-Api-Key": KEYS[0]}
    response = guarded.get("/v1/models", headers=headers)
    assert response.headers["access-control-allow-origin"] == origin
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers
    preflight = httpx.options(
        guarded.url + "/v1/chat/completions",
        headers={
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"


def test_a_large_body_is_refused(guarded: RunningServer) -> None:
    headers = {"X-Api-Key": KEYS[0]}
    whole = guarded.post("/v1/completions", {"prompt": "a" * 3000}, headers=headers)
    assert whole.status_code == 413

    def pieces():  # type: ignore[no-untyped-def]
        yield b'{"prompt": "'
        yield b"a" * 3000

    url = guarded.url + "/v1/completions"
    assert httpx.post(url, content=pieces(), headers=headers).status_code == 413


HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "start",
    [
        HEAD + b"X: ",
        HEAD,
        b"GET /",
        # A trailer after the body.
        CHUNKED + b"2\r\n{}\r\n0\r\nX: ",
    ],
)
@pytest.mark.parametrize("piece", [b"a" * 1000, b"a" * 40_000, b"X: y\r\n" * 200])
def test_large_headers_are_refused_and_others_served(
    server: RunningServer, start: bytes, piece: bytes
) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        answer = b""
        # The server may close before it has read everything, which a sender sees as an error.
        with suppress(ConnectionError):
            connection.sendall(start + piece * (200_000 // len(piece)))
        with suppress(ConnectionError):
            while more := connection.recv(65536):
                answer += more
        assert not answer or b" 400 " in answer
    assert server.get("/health").status_code == 200


def test_a_client_has_the_address_that_it_asks_from(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = server.server.models.loaded["tiny"].engine
    clients: set[str] = set()
    open_stream = engine.open

    def note(request: GenerationRequest) -> AsyncTokenStream:
        clients.add(request.client)
        return open_stream(request)

    monkeypatch.setattr(engine, "open", note)
    for address in ("198.51.100.7", "203.0.113.9"):
        headers = {"X-Forwarded-For": address, "Forwarded": f"for={address}"}
        server.post("/v1/completions", {"prompt": "a", "max_tokens": 1}, headers=headers)
    assert {client.split()[0] for client in clients} == {"127.0.0.1"}


def test_a_body_in_small_chunks_is_no_header(server: RunningServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"content": "'
        for _ in range(20_000):
            yield b"abcd"
        yield b'"}'

    response = httpx.post(server.url + "/tokenize", content=pieces(), timeout=120)
    assert response.status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_a_public_address_needs_a_key(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(RequestError, match="api-key-file"):
        make_security(host=host)
    assert make_security(host=host, keys=KEYS).hosts is None
    assert make_security(host=host, insecure=True).hosts == frozenset()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_loopback_needs_none(host: str) -> None:
    assert is_loopback(host)
    assert make_security(host=host).key_digests == ()


@pytest.mark.parametrize("key", ["", "short", "with space", "ümlauts-1", "line\nbreak"])
def test_a_weak_key_is_refused(key: str) -> None:
    with pytest.raises(RequestError, match="API key"):
        make_security(host="127.0.0.1", keys=[key])


def test_an_origin_that_is_none_is_refused() -> None:
    with pytest.raises(RequestError, match="origin"):
        make_security(host="127.0.0.1", origins=["localhost:3000/path"])
