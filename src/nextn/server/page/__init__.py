"""The page at `/`: a chat that also shows who foresaw each token, and what that saves.

Its files lie in `static/` and are served as they are: plain HTML, CSS and JavaScript modules that
no build has touched. They load nothing from elsewhere, which `_POLICY` makes sure of, so that what
a model writes can neither run nor send anything, even if the page had a mistake.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)

_HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked for again: an update must not meet old parts
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def page_routes() -> list[Route]:
    """The routes of the page: `/`, and `/page/NAME` for its parts."""
    return [Route("/", _index), Route("/page/{name}", _part)]


def page_paths() -> frozenset[str]:
    """The paths of the page. They need no API key: the page is where a person enters it."""
    return frozenset(("/", *(f"/page/{name}" for name in _load_files())))


async def _index(request: Request) -> Response:
    return _serve(request, "index.html")


async def _part(request: Request) -> Response:
    return _serve(request, request.path_params["name"])


def _serve(request: Request, name: str) -> Response:
    file = _load_files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**_HEADERS, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)


@cache
def _load_files() -> dict[str, _File]:
    """Every file by name; a name from a request is looked up here, and never becomes a path."""
    found = {}
    for entry in files(__package__).joinpath("static").iterdir():
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if kind is not None:
            content = entry.read_bytes()
            found[entry.name] = _File(
                content, kind, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            )
    return found
