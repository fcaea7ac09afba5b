"""A server that plays written answers to the page, and the thread that any ASGI app runs in."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from nextn.server.page import page_routes

Step = Sequence[tuple[str, str]]
"""The (text, origin) of the tokens of one step; the drafted ones come first."""


@contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Serve an app on a free port of this machine; yields its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)  # from now on, clients wait instead of failing
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            # A test that failed may have left a stream that never ends.
            server.should_exit = server.force_exit = True
            thread.join()


@dataclass
class Script:
    """What the server does next, and what it was asked.

    Attributes:
        steps: of the next answers; each has the tokens of one step.
        reasoning: said before them.
        plain: the same without drafts; by default, the same tokens.
        error: answered instead, as (status, message).
        hold: the answer waits after its first step until this is set.
        requests: bodies that came.
        cancelled: how many answers were left by the client before their end.
        at_once: how many answers are being written, and the most that were.
        api_key: that is asked for.
    """

    steps: Sequence[Step] = ((("Hello", "trunk"),),)
    reasoning: str = ""
    plain: Sequence[Step] = ()
    error: tuple[int, str] | None = None
    hold: threading.Event | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    cancelled: int = 0
    at_once: list[int] = field(default_factory=lambda: [0, 0])
    api_key: str = ""


def scripted_app(script: Script) -> Starlette:
    """The page, with chat completions that follow a script."""

    async def models(request: Request) -> Response:
        if script.api_key and request.headers.get("authorization") != f"Bearer {script.api_key}":
            return JSONResponse({"error": {"message": "wrong key"}}, 401)
        return JSONResponse({"object": "list", "data": [{"id": "tiny"}, {"id": "other"}]})

    async def chat(request: Request) -> Response:
        body = await request.json()
        script.requests.append(body)
        if script.error is not None:
            status, message = script.error
            return JSONResponse({"error": {"message": message, "type": "x", "code": None}}, status)
        return StreamingResponse(_events(script, body), media_type="text/event-stream")

    return Starlette(
        routes=[
            *page_routes(),
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ]
    )


async def _events(script: Script, body: dict[str, Any]) -> AsyncIterator[str]:
    steps = script.steps
    if body.get("mtp") == "off":
        steps = script.plain or [[(text, "trunk")] for step in steps for text, _ in step]
    finished = False
    count = 0
    script.at_once[0] += 1
    script.at_once[1] = max(script.at_once)
    try:
        yield ": a comment, as pings are\n\n"
        yield _event({"role": "assistant", "content": ""})
        if script.reasoning:
            yield _event({"reasoning_content": script.reasoning})
        for number, step in enumerate(steps):
            await asyncio.sleep(0)
            while number == 1 and script.hold is not None and not script.hold.is_set():
                await asyncio.sleep(0.01)
            count += len(step)
            yield _event(
                {"content": "".join(text for text, _ in step)},
                nextn={
                    "tokens": [{"text": text, "origin": origin} for text, origin in step],
                    "acceptance_at": [0.75, 0.5],
                    "judged_at": [8, number],
                },
            )
        timings = {
            "cache_n": 2,
            "prompt_n": 5,
            "predicted_n": count,
            "predicted_ms": 100.0 * len(steps),
            "predicted_per_second": count / (0.1 * len(steps)),
        }
        yield _event({}, finish_reason="stop", timings=timings)
        if "stream_options" in body:
            yield f"data: {json.dumps({'choices': [], 'usage': {'completion_tokens': count}})}\n\n"
        yield "data: [DONE]\n\n"
        finished = True
    finally:
        script.cancelled += not finished
        script.at_once[0] -= 1


def _event(delta: dict[str, Any], finish_reason: str | None = None, **others: Any) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return f"data: {json.dumps({'choices': [choice], **others})}\n\n"
