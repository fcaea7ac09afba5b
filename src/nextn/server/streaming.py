"""Answers that arrive piece by piece, and clients that leave in their middle."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

_log = logging.getLogger("nextn.server")


class EventStream(Response):
    """Sends pieces as they come, and pings while none comes.

    Args:
        pieces: whole events; an exception in it is the end of the answer.
        close: called once at the end, and at once when the client leaves; then `pieces` must end.
        ping: what keeps the connection alive; b"" for nothing.
        ping_seconds: after this time without a piece.
        media_type: of the answer.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        close: Callable[[], None],
        *,
        ping: bytes = b": ping\n\n",
        ping_seconds: float = 15.0,
        media_type: str = "text/event-stream",
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = media_type
        # Proxies must not collect what should arrive at once.
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._pieces = pieces
        self._close = close
        self._ping = ping
        self._ping_seconds = ping_seconds
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, in ASGI's way."""
        tasks = [asyncio.create_task(_close_when_left(receive, self._close))]
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if self._ping:
                tasks.append(asyncio.create_task(self._send_pings(send)))
            async for piece in self._pieces:
                self._sent += 1
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OSError:
            _log.debug("a client left")
        finally:
            for task in tasks:
                task.cancel()
            self._close()

    async def _send_pings(self, send: Send) -> None:
        while True:
            before = self._sent
            await asyncio.sleep(self._ping_seconds)
            if self._sent == before:
                await send({"type": "http.response.body", "body": self._ping, "more_body": True})


async def _close_when_left(receive: Receive, close: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    close()


@asynccontextmanager
async def closed_when_left(request: Request, close: Callable[[], None]) -> AsyncIterator[None]:
    """Within it, `close` is called if the client leaves; and at its end in any case."""
    task = asyncio.create_task(_close_when_left(request.receive, close))
    try:
        yield
    finally:
        task.cancel()
        close()


def sse(value: Any, event: bytes = b"") -> bytes:
    """One server-sent event with a JSON value."""
    data = b"data: " + msgspec.json.encode(value) + b"\n\n"
    return b"event: " + event + b"\n" + data if event else data


async def merge(
    readers: Sequence[Callable[[], Awaitable[T | None]]],
) -> AsyncGenerator[tuple[int, T], None]:
    """The results of several readers as they come, each with the index of its reader.

    When one fails, the others are cancelled.

    Args:
        readers: each is called again and again, until it returns None.
    """
    if len(readers) == 1:
        while (item := await readers[0]()) is not None:
            yield 0, item
        return
    pending: dict[asyncio.Future[T | None], int] = {
        asyncio.ensure_future(reader()): index for index, reader in enumerate(readers)
    }
    try:
        while pending:
            done, _ = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(done, key=pending.__getitem__):
                index = pending.pop(task)
                item = task.result()
                if item is not None:
                    pending[asyncio.ensure_future(readers[index]())] = index
                    yield index, item
    finally:
        for task in pending:
            task.cancel()
        # Some may have failed, too; asyncio complains of exceptions that nobody takes.
        await asyncio.gather(*pending, return_exceptions=True)
