"""Asks a server that speaks OpenAI's chat API, and takes the time of every piece that comes.

Nothing is decoded while an answer arrives, so that the client takes little of a machine that it
shares with the server.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from nextn.errors import NextnError, RequestError

_READ = 1 << 16


class ServerError(NextnError):
    """A server that cannot be reached, or that refuses what it must answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer. Times are in seconds, on the clock of `time.perf_counter`.

    Attributes:
        sent: when the request was sent.
        arrived: when each piece of text came; a piece may be several tokens.
        text: the whole text, reasoning included.
        tokens: how many were written, as the server says; else how many pieces came.
        error: why there is no answer, or no whole one; None otherwise.
    """

    sent: float
    arrived: tuple[float, ...] = ()
    text: str = ""
    tokens: int = 0
    error: str | None = None

    @property
    def ttft(self) -> float:
        """Time to the first token."""
        return self.arrived[0] - self.sent

    @property
    def tpot(self) -> float | None:
        """Time per token after the first one; None if there are no others."""
        if self.tokens < 2:
            return None
        return (self.arrived[-1] - self.arrived[0]) / (self.tokens - 1)

    @property
    def itl(self) -> list[float]:
        """Times between pieces. A piece may be several tokens: `tpot` compares, this does not."""
        return [b - a for a, b in zip(self.arrived, self.arrived[1:], strict=False)]

    @property
    def e2e(self) -> float:
        """Time to the last token."""
        return self.arrived[-1] - self.sent


class Client:
    """A server, and the model of it that is asked. Safe to use from several threads.

    Args:
        url: of the server, with or without "/v1" at its end.
        model: the model's name; None for the server's first.
        key: the API key; None for none.
        timeout: seconds without a piece of an answer after which it has failed.

    Attributes:
        url: of the API, such as "http://127.0.0.1:8080/v1".
        model: the model's name.

    Raises:
        RequestError: the URL is none.
        ServerError: the server cannot be reached, or has no such model.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        timeout: float = 600.0,
    ) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise RequestError(f"{url!r} is no address such as http://127.0.0.1:8080")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._path = parts.path.rstrip("/").removesuffix("/v1") + "/v1"
        self.url = f"{parts.scheme}://{parts.netloc}{self._path}"
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._timeout = timeout
        self.model = self._find_model(model)

    def ask(self, messages: Sequence[Mapping[str, str]], **fields: Any) -> Answer:
        """Ask for an answer, and wait for its end; a failure is an `Answer` too.

        Args:
            messages: of the conversation.
            fields: further ones of the body.
        """
        body = json.dumps(
            {
                "model": self.model,
                "messages": list(messages),
                "stream": True,
                "stream_options": {"include_usage": True},
                **fields,
            }
        )
        connection = self._connect()
        sent = time.perf_counter()
        try:
            connection.request("POST", f"{self._path}/chat/completions", body, self._headers)
            response = connection.getresponse()
            if response.status != 200:
                return Answer(sent, error=_message(response.status, response.read(_READ)))
            pieces = []
            while piece := response.read1(_READ):
                pieces.append((time.perf_counter(), piece))
        except (OSError, http.client.HTTPException) as error:
            return Answer(sent, error=str(error) or type(error).__name__)
        finally:
            connection.close()
        return _decode(sent, pieces)

    def _find_model(self, wanted: str | None) -> str:
        connection = self._connect()
        try:
            connection.request("GET", f"{self._path}/models", headers=self._headers)
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url}: cannot be reached: {error}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise ServerError(f"{self.url}/models: {_message(response.status, data)}")
        try:
            names = [entry["id"] for entry in json.loads(data)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ServerError(f"{self.url}/models: is no list of models") from error
        if not names or (wanted is not None and wanted not in names):
            known = ", ".join(map(str, names)) or "none"
            raise ServerError(f"{self.url}: has no model {wanted or ''!r}; it has {known}")
        return wanted if wanted is not None else str(names[0])

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout)


def _decode(sent: float, pieces: list[tuple[float, bytes]]) -> Answer:
    """The answer of a stream that came in pieces, which may end anywhere in an event."""
    arrived: list[float] = []
    texts: list[str] = []
    tokens: int | None = None
    ended = False
    pending = b""
    for when, piece in pieces:
        *lines, pending = (pending + piece).split(b"\n")
        for line in lines:
            data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
            if not data or data == b"[DONE]":
                ended |= bool(data)
                continue
            try:
                event = json.loads(data)
                if error := event.get("error"):
                    return Answer(sent, error=str(error.get("message", error)))
                usage = event.get("usage")
                tokens = usage["completion_tokens"] if usage else tokens
                for choice in event["choices"]:
                    delta = choice["delta"]
                    text = (delta.get("reasoning_content") or "") + (delta.get("content") or "")
                    if text:
                        texts.append(text)
                        arrived.append(when)
            except (ValueError, KeyError, TypeError, AttributeError):
                return Answer(sent, error=f"an event that is none of chat: {data[:80]!r}")
    if not ended:
        return Answer(sent, error="the stream ended before the answer")
    if not arrived:
        return Answer(sent, error="the answer has no text")
    return Answer(sent, tuple(arrived), "".join(texts), len(arrived) if tokens is None else tokens)


def _message(status: int, body: bytes) -> str:
    try:
        text = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = body[:200].decode(errors="replace").strip()
    return f"status {status}: {text}"
