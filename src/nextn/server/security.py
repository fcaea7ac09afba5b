"""Who may ask: the Host, the Origin and the key of a request, checked before anything else.

- A page from elsewhere must not use a browser to reach a server on its own machine. Where it finds
  a name that leads there (DNS rebinding), the Host header still says the page's own name; where it
  sends a request across, the browser says so in the Origin header.
- Keys are compared in constant time. Without one, the server listens on the loopback only.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextn.errors import RequestError
from nextn.server.errors import ApiError

caller: ContextVar[str] = ContextVar("nextn_caller", default="")
"""Who asks: one name per key, or else per address; clients take turns by it."""

MIN_KEY = 8
"""Least characters of a key."""

_HOST = re.compile(r"(?P<name>\[[0-9a-fA-F:.]+\]|[^\s:/?#@\[\]]+)(?::\d{1,5})?")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]+")
_PREFLIGHT_SECONDS = "600"


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who may ask; see `make_security`.

    Attributes:
        key_digests: SHA-256 of each key; without any, no key is needed.
        hosts: names that the Host header may have besides addresses and the machine's own names;
            None to accept all.
        origins: pages that may ask from a browser, such as "http://localhost:3000", besides those
            of the server itself; "*" for all.
    """

    key_digests: tuple[bytes, ...] = ()
    hosts: frozenset[str] | None = frozenset()
    origins: frozenset[str] = field(default_factory=frozenset)


def make_security(
    *,
    host: str,
    keys: Iterable[str] = (),
    hosts: Iterable[str] = (),
    origins: Iterable[str] = (),
    insecure: bool = False,
) -> Security:
    """Decide who may ask.

    Args:
        host: the address to listen on.
        keys: any of them lets a request in.
        hosts: further names that the Host header may have.
        origins: pages that may ask from a browser, besides the server's own.
        insecure: allow a server without a key that others can reach.

    Raises:
        RequestError: others could reach a server without a key, or a value that is none.
    """
    keys = list(keys)
    for key in keys:
        if len(key) < MIN_KEY or not key.isascii() or not key.isprintable() or " " in key:
            raise RequestError(
                f"an API key has {len(key)} characters; allowed: at least {MIN_KEY}, printable "
                "ASCII without spaces"
            )
    local = is_loopback(host)
    if not (local or keys or insecure):
        raise RequestError(
            f"others can reach {host}, and no key is needed; give --api-key-file, or --insecure "
            "if this is what you want"
        )
    origins = frozenset(origin.rstrip("/") for origin in origins)
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise RequestError(f"{origin!r} is no origin such as http://localhost:3000")
    return Security(
        key_digests=tuple(_digest(key) for key in keys),
        # Whoever has the key is no page from elsewhere; and behind a proxy any name may be right.
        hosts=None if keys and not local else frozenset(name.lower() for name in hosts),
        origins=origins,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets a request through to the application, or answers what is wrong with it.

    Args:
        app: the application.
        security: who may ask.
        public: paths that need no key.
        refuse: makes the answer of an error on a path.
    """

    def __init__(
        self,
        app: ASGIApp,
        security: Security,
        public: frozenset[str],
        refuse: Callable[[ApiError, str], Response],
    ) -> None:
        self._app = app
        self._security = security
        self._public = public
        self._refuse = refuse
        self._own_names = _own_names()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, in ASGI's way."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        allowed = self._allowed_origin(headers)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = MutableHeaders(scope=message)
                more["X-Content-Type-Options"] = "nosniff"
                if allowed is not None:
                    more["Access-Control-Allow-Origin"] = allowed
                    more["Access-Control-Expose-Headers"] = "*"
                    more.add_vary_header("Origin")
            await send(message)

        error = self._error(scope, headers, allowed)
        if error is not None:
            await self._refuse(error, scope["path"])(scope, receive, send_with_headers)
        elif allowed is not None and scope["method"] == "OPTIONS":
            await _preflight(headers)(scope, receive, send_with_headers)
        else:
            caller.set(_name_of(scope, headers))
            await self._app(scope, receive, send_with_headers)

    def _error(self, scope: Scope, headers: Headers, allowed: str | None) -> ApiError | None:
        host = headers.get("host", "")
        if not self._is_known_host(host):
            return ApiError(
                403,
                f"the Host header {host[:100]!r} is not a name of this server; start it with "
                "--allowed-host if it is",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin is not None and allowed is None and not _is_same(origin, host):
            return ApiError(
                403,
                f"pages of {origin[:100]!r} may not use this server; start it with --cors-origin "
                "if they should",
                code="origin_not_allowed",
            )
        if scope["method"] == "OPTIONS" and allowed is not None:
            return None
        if scope["path"] not in self._public and not self._has_key(headers):
            return ApiError(
                401,
                "no valid API key; give one as 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None

    def _is_known_host(self, host: str) -> bool:
        hosts = self._security.hosts
        if hosts is None:
            return True
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].lower().rstrip(".")
        try:
            # No page can have an address for its name and yet come from elsewhere.
            ipaddress.ip_address(name.strip("[]"))
            return True
        except ValueError:
            return name in self._own_names or name.endswith(".localhost") or name in hosts

    def _allowed_origin(self, headers: Headers) -> str | None:
        """What Access-Control-Allow-Origin says; None for pages that may not ask."""
        origin = headers.get("origin")
        if origin is None:
            return None
        if "*" in self._security.origins:
            return "*"
        return origin if origin in self._security.origins else None

    def _has_key(self, headers: Headers) -> bool:
        digests = self._security.key_digests
        if not digests:
            return True
        digest = _digest(_given_key(headers))
        # All of them, always: the time must not say which one was nearly right.
        return sum(hmac.compare_digest(digest, known) for known in digests) > 0


def _given_key(headers: Headers) -> str:
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    return bearer.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")


def _name_of(scope: Scope, headers: Headers) -> str:
    key = _given_key(headers)
    return _digest(key).hex() if key else (scope.get("client") or ("",))[0]


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _is_same(origin: str, host: str) -> bool:
    """Whether a page of `origin` came from this server."""
    scheme, _, rest = origin.partition("://")
    return scheme in ("http", "https") and rest.lower() == host.lower()


def _own_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    short = name.partition(".")[0]
    return frozenset({"localhost", name, short, f"{short}.local"})


def _preflight(headers: Headers) -> Response:
    """What a browser asks before it lets a page of another origin ask."""
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": headers.get("access-control-request-headers", "*"),
            "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
        },
    )
