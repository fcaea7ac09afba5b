"""Downloads one address to one file, or reads a part of it; what breaks off is resumed."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Protocol

from nextn.errors import SourceError
from nextn.files.sources.cache import CACHE_VARIABLE, disk_errors

ATTEMPTS = 6
TIMEOUT_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.5
_CHUNK_BYTES = 1 << 18
_AUTHORIZATION = "Authorization"
_TEMPORARY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class UnusableAddressError(Exception):
    """An address from which nothing can be had this way; another program may know how."""


class _BrokenOffError(Exception):
    """The connection failed; trying again may help."""


class _Response(Protocol):
    """What `urlopen` gives, for every kind of address."""

    status: int | None
    headers: http.client.HTTPMessage

    def read(self, amount: int, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Address:
    """Where a file is, and what the server is shown."""

    url: str
    authorization: str | None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to other places; only those on the same server are shown the authorization."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get(_AUTHORIZATION)
        if new and authorization and (new.type, new.host) == (req.type, req.host):
            new.add_unredirected_header(_AUTHORIZATION, authorization)
        return new


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    report: Callable[[int, int | None], None],
    pause: Callable[[float], None] = time.sleep,
    authorization: str | None = None,
    variable: str = CACHE_VARIABLE,
) -> None:
    """Download `url` to `target`.

    Until it is complete and verified, the file is called `target` + ".part". What is there of an
    earlier download is continued, if the server can do that. When the checksum is wrong after a
    continued download, it begins again from the start.

    Args:
        url: http, https or file.
        target: the file to write.
        sha256: what the file must have, in lower-case hexadecimal; None if nobody knows.
        report: called with the bytes so far and in all.
        pause: waits before another attempt.
        authorization: the header of that name; no other server gets to see it.
        variable: of the environment, which can name another directory, for errors.

    Raises:
        SourceError: the connection kept failing, the checksum is wrong, or the disk is full.
        UnusableAddressError: the server refuses, or was never reached.
    """
    part = target.with_name(target.name + ".part")
    with disk_errors(part, variable):
        if sha256 is not None and part.exists() and file_sha256(part) == sha256:
            part.replace(target)
            return
        for resume in (True, False):
            _fetch(_Address(url, authorization), part, resume=resume, report=report, pause=pause)
            if sha256 is None or file_sha256(part) == sha256:
                part.replace(target)
                return
            part.unlink()
    raise SourceError(
        f"{url}: the SHA-256 of the download is not {sha256}; it was removed, because it is "
        "damaged or another file"
    )


def read_range(
    url: str,
    start: int,
    count: int,
    *,
    pause: Callable[[float], None] = time.sleep,
    authorization: str | None = None,
) -> bytes:
    """Read a part of a file that stays where it is.

    Args:
        url: http or https.
        start: of the part, in bytes.
        count: its length, at least 1; the file must reach so far.
        pause: waits before another attempt.
        authorization: the header of that name; no other server gets to see it.

    Raises:
        SourceError: the connection kept failing.
        UnusableAddressError: the server refuses, or sends whole files only.
    """
    reason = ""
    parts: list[bytes] = []
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        begin = start + sum(map(len, parts))
        try:
            response = _open(_Address(url, authorization), begin, start + count)
        except _BrokenOffError as error:
            reason = str(error)
            continue
        try:
            if begin and not _sends_from(response, begin):
                raise UnusableAddressError("the server cannot send a part of a file")
            left = start + count - begin
            # A server that knows no ranges sends all, of which no more is taken than is wanted.
            while left and (chunk := _read(response, left)):
                parts.append(chunk)
                left -= len(chunk)
        except _BrokenOffError as error:
            reason = str(error)
            continue
        finally:
            response.close()
        if not left:
            return b"".join(parts)
        reason = f"the connection ended {left} bytes too early"
    raise SourceError(f"{url}: {reason}; try again later")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(
    address: _Address,
    part: Path,
    *,
    resume: bool,
    report: Callable[[int, int | None], None],
    pause: Callable[[float], None],
) -> None:
    """Write the whole of a file to `part`, in as many attempts as it needs."""
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            pause(_FIRST_PAUSE_SECONDS * 2 ** (attempt - 1))
        kept = part.stat().st_size if resume and part.exists() else 0
        try:
            response = _open(address, kept)
        except _BrokenOffError as error:
            reason = str(error)
            continue
        try:
            _receive(response, part, kept, report)
        except _BrokenOffError as error:
            reason = str(error)
            continue
        finally:
            response.close()
        return
    if not part.exists():
        raise UnusableAddressError(reason)
    raise SourceError(
        f"{address.url}: {reason}; try again later, the download goes on where it stopped"
    )


def _open(address: _Address, kept: int, end: int | None = None) -> _Response:
    """Ask for a file from byte `kept` on, up to byte `end` if that is given."""
    headers = {"User-Agent": "nextn", "Accept-Encoding": "identity"}
    if kept or end is not None:
        headers["Range"] = f"bytes={kept}-" + ("" if end is None else f"{end - 1}")
    request = urllib.request.Request(address.url, headers=headers)
    if address.authorization is not None:
        request.add_unredirected_header(_AUTHORIZATION, address.authorization)
    try:
        opener = urllib.request.build_opener(_Redirects)
        response: _Response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        reason = f"the server answered {error.code} {error.reason}"
        error.close()
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and kept and end is None:
            # What is there is longer than the file, so it is of another one.
            return _open(address, 0)
        if error.code in _TEMPORARY or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _BrokenOffError(reason) from error
        raise UnusableAddressError(reason) from error
    except urllib.error.URLError as error:
        # A certificate or a kind of address that this Python does not know, or a missing file.
        if isinstance(error.reason, ssl.SSLError | str | FileNotFoundError):
            raise UnusableAddressError(str(error.reason)) from error
        raise _BrokenOffError(f"no connection: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"no connection: {error}") from error
    return response


def _receive(
    response: _Response, part: Path, kept: int, report: Callable[[int, int | None], None]
) -> None:
    """Write what the server sends, behind the first `kept` bytes if it sends the rest only."""
    continues = _sends_from(response, kept)
    if response.status == HTTPStatus.PARTIAL_CONTENT and not continues:
        raise _BrokenOffError("the server sent another part than was asked for")
    done = kept if continues else 0
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdecimal() else None
    with part.open("ab" if continues else "wb") as file:
        while chunk := _read(response):
            file.write(chunk)
            done += len(chunk)
            report(done, total)
    if total is not None and done != total:
        raise _BrokenOffError(f"the connection ended after {done} of {total} bytes")


def _sends_from(response: _Response, start: int) -> bool:
    """Whether what comes is the part of the file that begins there."""
    return response.status == HTTPStatus.PARTIAL_CONTENT and response.headers.get(
        "Content-Range", ""
    ).startswith(f"bytes {start}-")


def _read(response: _Response, most: int = _CHUNK_BYTES) -> bytes:
    # Apart from the writing, since errors of the disk and of the network are both OSError.
    try:
        return response.read(min(most, _CHUNK_BYTES))
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"the connection failed: {error}") from error
