"""A real server on a loopback port, with a tiny random model."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import nextn
from nextn.server.app import create_app
from nextn.server.models import Models, ModelSpec
from nextn.server.protocol import new_event_loop, web_config
from nextn.server.run import listen, url_of
from nextn.server.security import Security
from nextn.server.state import Server, ServerSettings
from tests.support.tiny_gguf import write_tiny_model


class RunningServer:
    """A server in a thread of its own.

    Attributes:
        url: where it listens.
        server: its state; belongs to its thread.
    """

    def __init__(
        self,
        specs: list[ModelSpec],
        settings: ServerSettings | None = None,
        security: Security | None = None,
        **models: Any,
    ) -> None:
        self._listener: socket.socket = listen("127.0.0.1", 0)
        self.url = url_of(self._listener)
        self._specs = specs
        self._settings = settings or ServerSettings()
        self._security = security
        self._models = models
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> RunningServer:
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self._web.should_exit = True
        self._thread.join()

    def _work(self) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(self._run())

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        models = Models(self._specs, **self._models)
        self.server = Server(models=models, settings=self._settings, security=self._security)
        self._web = uvicorn.Server(
            web_config(create_app(self.server), write_seconds=self._settings.write_seconds)
        )
        serving = asyncio.create_task(self._web.serve(sockets=[self._listener]))
        await self.server.models.start()
        self._ready.set()
        await serving

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=120, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.url + path, timeout=120, **options)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama with random weights and a chat template."""
    path = tmp_path_factory.mktemp("server") / "tiny.gguf"
    write_tiny_model(path, "llama")
    return path


def spec(path: Path, name: str = "tiny", **options: Any) -> ModelSpec:
    """A model for a server, loaded with one thread."""
    settings: dict[str, Any] = {"threads": 1, "context": 256, "max_sequences": 16, **options}
    return ModelSpec(name=name, load=lambda: nextn.load(path, **settings))


@pytest.fixture(scope="module")
def server(tiny_path: Path) -> Iterator[RunningServer]:
    """A server with one tiny model, called "tiny"."""
    with RunningServer([spec(tiny_path)], ServerSettings()) as running:
        yield running


@pytest.fixture(scope="session")
def wide_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with room for conversations with tools."""
    path = tmp_path_factory.mktemp("wide") / "tiny.gguf"
    write_tiny_model(path, "llama", context_length=4096)
    return path


@pytest.fixture(scope="module")
def wide_server(wide_path: Path) -> Iterator[RunningServer]:
    """A server with that model, called "tiny"."""
    with RunningServer([spec(wide_path, context=4096)], ServerSettings()) as running:
        yield running
