"""Stand-ins for the network: a web server whose connections break, and a package index."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nextn.errors import SourceError
from nextn.files.sources.package_index import IndexEntry


@dataclass
class Site:
    """What a web server offers and how it misbehaves.

    Attributes:
        files: content by path.
        break_after: bytes after which each of the next connections ends; None lets one pass.
        answers: status codes with which the next connections are refused.
        knows_ranges: whether a download can be continued.
        shift_ranges_by: how far from the wanted place a continued download begins.
        requested_ranges: the Range header of each request, "" where there was none.
        tokens: the Authorization header of each request, "" where there was none.
        sent_bytes: of files, over all requests.
        url: of the server, without a slash at the end.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    break_after: list[int | None] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    shift_ranges_by: int = 0
    requested_ranges: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    """Run a web server on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, site)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = handler.headers.get("Range", "")
    site.requested_ranges.append(wanted)
    site.tokens.append(handler.headers.get("Authorization", ""))
    content = site.files.get(handler.path)
    if site.answers:
        handler.send_error(site.answers.pop(0))
        return
    if content is None:
        handler.send_error(404)
        return
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    ranged = bool(first) and site.knows_ranges
    start = int(first) if ranged else 0
    end = min(int(last) + 1, len(content)) if ranged and last else len(content)
    if start and start >= len(content):
        handler.send_error(416)
        return
    if ranged and (start or last):
        start += site.shift_ranges_by
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(end - start))
    handler.end_headers()
    limit = site.break_after.pop(0) if site.break_after else None
    sent = content[start:end] if limit is None else content[start:end][:limit]
    site.sent_bytes += len(sent)
    handler.wfile.write(sent)


def make_wheel(members: Mapping[str, bytes]) -> bytes:
    """A wheel is a ZIP archive; nextn reads nothing else of it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Index:
    """A package index whose wheels are on a `Site`.

    Attributes:
        site: where the wheels are.
        wheels: the content of the wheel of each "NAME==VERSION".
        states_hashes: whether the index says what SHA-256 a wheel has.
        asked: the requirements that were looked for.
    """

    site: Site
    wheels: dict[str, bytes] = field(default_factory=dict)
    states_hashes: bool = True
    asked: list[str] = field(default_factory=list)

    def add(self, requirement: str, wheel: bytes) -> None:
        """Offer a wheel."""
        self.wheels[requirement] = wheel
        self.site.files[f"/{requirement}.whl"] = wheel

    def locate(self, requirement: str) -> IndexEntry:
        """See `PackageIndex.locate`."""
        self.asked.append(requirement)
        if requirement not in self.wheels:
            raise SourceError(f"{requirement}: not found on the package index")
        digest = hashlib.sha256(self.wheels[requirement]).hexdigest()
        address = f"{self.site.url}/{requirement}.whl"
        return IndexEntry(address, digest if self.states_hashes else None, f"{requirement}.whl")

    def download(self, requirement: str, directory: Path) -> Path:
        """See `PackageIndex.download`."""
        path = directory / f"{requirement}.whl"
        path.write_bytes(self.wheels[requirement])
        return path
