"""The HTTP protocol of the server: uvicorn's, with a limit on headers.

httptools parses in C, in a third of the time of h11; but it keeps headers of any size. On platforms
without it, uvicorn falls back to h11, which has a limit of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

MAX_HEADER_BYTES = 32 << 10
"""Most bytes of the request line and headers of a request."""

_CHUNK_BYTES = 64  # what may surround a piece of a body

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    _protocol: Any = "h11"
else:

    class LimitedProtocol(HttpToolsProtocol):
        """Closes a connection whose headers are too large."""

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

    _protocol = LimitedProtocol


def web_config(app: Any, **settings: Any) -> uvicorn.Config:
    """How uvicorn serves an application of nextn."""
    return uvicorn.Config(
        app,
        http=_protocol,
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
