"""A stand-in for the Hugging Face hub: one server with the API, another with the bytes."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.files.sources.servers import Site, serve

COMMIT = "1234567890abcdef1234567890abcdef12345678"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Hub:
    """Repositories, and how the hub misbehaves.

    Attributes:
        storage: where the bytes are, apart from the API, as on the real hub.
        files: content of each file, by repository.
        commits: what "main" is, by repository; `COMMIT` where nothing is said.
        error: status, X-Error-Code and X-Error-Message of every answer of the API, if not None.
        file_error: the same for files only.
        stated_sha256: what the API says of a file, by path, where it is not the truth.
        without_lfs: files that are kept as Git keeps small ones, without a SHA-256.
        renamed: the present name of a repository, by the one that it had.
        answer: what the API says instead of a description of the repository.
        asked: method and path of each request.
        tokens: the Authorization header of each request, "" where there was none.
        url: of the API.
    """

    storage: Site = field(default_factory=Site)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    error: tuple[int, str, str] | None = None
    file_error: tuple[int, str, str] | None = None
    stated_sha256: dict[str, str] = field(default_factory=dict)
    without_lfs: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    answer: bytes | None = None
    asked: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""

    def commit(self, repository: str) -> str:
        return self.commits.get(repository, COMMIT)

    def downloads(self) -> list[str]:
        """Paths of the files of which the bytes were asked for."""
        files = [line for line in self.asked if line.startswith("GET ") and "/resolve/" in line]
        return [line.partition("/resolve/")[2].partition("/")[2] for line in files]


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Run both servers on free ports of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, hub)

        def do_HEAD(self) -> None:
            _answer(self, hub)

        def log_message(self, *_: Any) -> None:
            pass

    with (
        serve(hub.storage),
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


def _answer(handler: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = unquote(urlsplit(handler.path).path)
    hub.asked.append(f"{handler.command} {path}")
    hub.tokens.append(handler.headers.get("Authorization", ""))
    for old, new in hub.renamed.items():
        if f"/{old}/" in path:
            handler.send_response(307)
            handler.send_header("Location", path.replace(f"/{old}/", f"/{new}/"))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
    if path.startswith("/api/models/"):
        repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        _describe(handler, hub, repository, revision)
        return
    repository, separator, rest = path.removeprefix("/").partition("/resolve/")
    revision, _, file = rest.partition("/")
    content = hub.files.get(repository, {}).get(file)
    if hub.error or hub.file_error:
        _refuse(handler, *(hub.error or hub.file_error or ()))
    elif not separator or content is None:
        _refuse(handler, 404, "EntryNotFound", "Entry not found")
    else:
        stored = f"/{sha256(content)}"
        hub.storage.files.setdefault(stored, content)
        handler.send_response(302)
        handler.send_header("Location", hub.storage.url + stored)
        handler.send_header("X-Repo-Commit", hub.commit(repository))
        handler.send_header("X-Linked-Etag", f'"{sha256(content)}"')
        handler.send_header("X-Linked-Size", str(len(content)))
        handler.send_header("Content-Length", "0")
        handler.end_headers()


def _describe(handler: BaseHTTPRequestHandler, hub: Hub, repository: str, revision: str) -> None:
    if hub.error:
        _refuse(handler, *hub.error)
        return
    if repository not in hub.files:
        _refuse(handler, 401, "RepoNotFound", "Repository not found")
        return
    if revision not in ("main", hub.commit(repository)):
        _refuse(handler, 404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return
    siblings = [
        {
            "rfilename": path,
            "size": len(content),
            "blobId": hashlib.sha1(content).hexdigest(),
            "lfs": {
                "sha256": hub.stated_sha256.get(path, sha256(content)),
                "size": len(content),
                "pointerSize": 130,
            }
            if path not in hub.without_lfs
            else None,
        }
        for path, content in hub.files[repository].items()
    ]
    described = {"id": repository, "sha": hub.commit(repository), "siblings": siblings}
    body = json.dumps(described).encode() if hub.answer is None else hub.answer
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str, message: str) -> None:
    handler.send_response(status)
    handler.send_header("X-Error-Code", code)
    handler.send_header("X-Error-Message", message)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
