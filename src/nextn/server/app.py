"""Joins the API families into one application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from nextn.server import (
    anthropic,
    health,
    llama_server,
    metrics,
    ollama,
    openai_chat,
    openai_completions,
    openai_models,
    openai_responses,
)
from nextn.server.errors import ApiError, ErrorShape, openai_shape, to_api_error
from nextn.server.journal import Journal
from nextn.server.openapi import openapi_document
from nextn.server.operation import Call, Family, Operation, decode_body, json_response
from nextn.server.page import page_paths, page_routes
from nextn.server.security import Guard
from nextn.server.state import Server

FAMILIES: tuple[Family, ...] = (
    openai_chat.FAMILY,
    openai_completions.FAMILY,
    openai_responses.FAMILY,
    anthropic.FAMILY,
    ollama.FAMILY,
    openai_models.FAMILY,
    health.FAMILY,
    metrics.FAMILY,
    llama_server.FAMILY,
)
"""All APIs of the server; where prefixes are alike, the first one counts."""


def create_app(server: Server) -> Starlette:
    """The application of a server; its models are closed when it ends."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await server.models.close()

    routes = [
        Route(operation.path, _endpoint(server, family, operation), methods=[operation.method])
        for family in FAMILIES
        for operation in family.operations
    ]
    routes.append(Route("/openapi.json", _show_document, methods=["GET"]))
    routes += page_routes()
    public = page_paths() | {
        operation.path for family in FAMILIES for operation in family.operations if operation.public
    }
    guard = Middleware(Guard, security=server.security, public=public, refuse=_refuse)
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Journal), guard],
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error, Exception: _unforeseen},
    )
    app.state.server = server
    return app


def _endpoint(
    server: Server, family: Family, operation: Operation
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            body = None
            if operation.body is not None:
                settings = server.settings
                data = await read_body(request, settings.max_body, settings.body_seconds)
                body = decode_body(data, operation.body)
            return await operation.handle(Call(server, body, request))
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:
            problem = to_api_error(error, family.setting_names)
            return error_response(problem, family.error_shape)

    return endpoint


async def _show_document(_: Request) -> Response:
    import nextn

    return json_response(openapi_document(FAMILIES, nextn.__version__))


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body of a request.

    Raises:
        ApiError: it is larger than `limit` bytes, or takes longer than `seconds` to arrive.
    """
    too_large = ApiError(413, f"the body is larger than {limit} bytes", code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    data = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                data += chunk
                if len(data) > limit:
                    raise too_large
    except TimeoutError as error:
        message = f"the body did not arrive within {seconds:g} s"
        raise ApiError(408, message, headers={"Connection": "close"}) from error
    return bytes(data)


def error_response(problem: ApiError, shape: ErrorShape) -> Response:
    """The answer that says a problem."""
    return json_response(shape(problem), problem.status, problem.headers)


def _refuse(error: ApiError, path: str) -> Response:
    return error_response(error, shape_for(path))


def shape_for(path: str) -> ErrorShape:
    """The shape of errors for a path that may have no operation."""
    for family in FAMILIES:
        if path.startswith(family.prefixes) and family.prefixes:
            return family.error_shape
    return openai_shape


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    what = {404: "there is no such path", 405: f"{request.method} is not allowed here"}
    message = f"{request.url.path[:200]}: {what.get(status, 'not possible')}"
    return error_response(ApiError(status, message, headers=headers), shape_for(request.url.path))


async def _unforeseen(request: Request, error: Exception) -> Response:
    return error_response(to_api_error(error), shape_for(request.url.path))
