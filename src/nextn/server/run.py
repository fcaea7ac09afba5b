"""Runs a server until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from nextn.errors import NextnError
from nextn.server.app import create_app
from nextn.server.protocol import new_event_loop, web_config
from nextn.server.state import Server

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_LAST_SECONDS = 5.0
"""What a server has to end in order after a second signal, unless it loads a model."""

_log = logging.getLogger("nextn.server")


class AddressError(NextnError):
    """An address that cannot be listened on."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        AddressError: there is no such address, or somebody listens there already.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressError(f"cannot listen on {host}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise AddressError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}; give another --port"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address of a listening socket as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(
    create: Callable[[], Server],
    listener: socket.socket,
    *,
    on_ready: Callable[[Server], None] = lambda _: None,
) -> None:
    """Serve until SIGINT or SIGTERM; a second signal ends what is still being written.

    Args:
        create: makes the server, inside the event loop.
        listener: a listening socket; it is closed at the end.
        on_ready: called when the first model is loaded.

    Raises:
        NextnError: the first model cannot be loaded.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_run(create, listener, on_ready))


async def _run(
    create: Callable[[], Server], listener: socket.socket, on_ready: Callable[[Server], None]
) -> None:
    server = create()
    web = _WebServer(server)
    url = url_of(listener)
    _log.info("listening on %s", url, extra={"fields": {"message": "listening", "url": url}})
    with _signals_call(web.stop):
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        try:
            loading = asyncio.create_task(server.models.start())
            await asyncio.wait([loading, serving], return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
                on_ready(server)
            await serving
        finally:
            web.should_exit = web.force_exit = True
            await serving
            await server.models.close()


@contextmanager
def _signals_call(stop: Callable[[], None]) -> Iterator[None]:
    """Within it, signals call a function and do nothing else."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


class _WebServer(uvicorn.Server):
    """uvicorn, except for what signals do."""

    def __init__(self, server: Server) -> None:
        write_seconds = server.settings.write_seconds
        super().__init__(web_config(create_app(server), write_seconds=write_seconds))
        self._models = server.models

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none: what they do is for longer than the web server runs."""
        yield

    def stop(self) -> None:
        """Take no more requests and end when all texts are written; the second time, at once."""
        if not self.should_exit:
            _log.info("stopping: waiting for texts that are being written")
            self.should_exit = True
            return
        _log.info("ending at once")
        self.force_exit = True
        # Loading a model cannot be broken off, and nothing is lost with it.
        seconds = 0.0 if self._models.loading else _LAST_SECONDS
        asyncio.get_running_loop().call_later(seconds, _end_process)


def _end_process() -> None:
    """End at once, whatever other threads do."""
    for handler in logging.getLogger("nextn").handlers:
        handler.flush()
    os._exit(1)
