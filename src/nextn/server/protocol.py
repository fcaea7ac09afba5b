"""The HTTP protocol of the server: uvicorn's, with limits on headers and on slow readers.

httptools parses in C, in a third of the time of h11; but it keeps headers of any size. On platforms
without it, h11 is used, which has a limit of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from uvicorn.protocols.http.flow_control import FlowControl

MAX_HEADER_BYTES = 32 << 10
"""Most bytes of the request line and headers of a request."""

_CHUNK_BYTES = 64  # what may surround a piece of a body

_log = logging.getLogger("nextn.server")


class _WriteLimit(asyncio.Protocol):
    """Ends a connection whose client takes nothing for too long; for a protocol of uvicorn.

    An application that writes waits while more than 64 KiB are not taken. If that were for ever,
    its text would go on and its model could not be unloaded; and a server that is to end would wait
    for the rest of an answer. When the connection ends, the application is told that the client
    left.

    Args:
        write_seconds: how long a client may take nothing.
    """

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    flow: FlowControl
    cycle: Any

    def __init__(self, *arguments: Any, write_seconds: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._write_seconds = write_seconds
        self._watch: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        super().pause_writing()
        self._watch_writing()

    def on_response_complete(self) -> None:
        """See uvicorn's protocols."""
        super().on_response_complete()  # type: ignore[misc]
        self._watch_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop_watching()
        super().connection_lost(error)

    def _watch_writing(self) -> None:
        """Look later whether anything was taken; from now on nothing is written until it was."""
        self._stop_watching()
        left = self.transport.get_write_buffer_size()
        if left:
            self._watch = self.loop.call_later(self._write_seconds, self._end_if_stalled, left)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _end_if_stalled(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        if not (self.flow.write_paused or self.cycle.response_complete):
            return  # what is there may be new; it is watched when it has become much, or the end
        if left < before:
            self._watch_writing()
            return
        _log.info("a client took nothing for %g s; its connection ends", self._write_seconds)
        self.transport.abort()


try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class LimitedProtocol(_WriteLimit, H11Protocol):
        """Closes a connection whose client does not read."""

else:

    class LimitedProtocol(_WriteLimit, HttpToolsProtocol):  # type: ignore[no-redef]
        """Closes a connection whose headers are too large, or whose client does not read."""

        _head_bytes = 0
        """Bytes of the present message that are not known to be of its body."""

        def data_received(self, data: bytes) -> None:
            """See `asyncio.Protocol`."""
            self._head_bytes += len(data)
            super().data_received(data)
            if self._head_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

        def on_message_begin(self) -> None:
            """Count anew."""
            self._head_bytes = 0
            super().on_message_begin()

        def on_body(self, body: bytes) -> None:
            """Take a piece of the body out of the count."""
            self._head_bytes = max(self._head_bytes - len(body) - _CHUNK_BYTES, 0)
            super().on_body(body)


def web_config(app: Any, *, write_seconds: float, **settings: Any) -> uvicorn.Config:
    """How uvicorn serves an application of nextn.

    Args:
        app: the application.
        write_seconds: a client that takes nothing of what was written for so long is left.
        settings: further ones of uvicorn.
    """
    protocol: Any = functools.partial(LimitedProtocol, write_seconds=write_seconds)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        # What a client says of its address is worth nothing; uvicorn believes all on the loopback.
        proxy_headers=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        **settings,
    )


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's, which takes half the time, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
