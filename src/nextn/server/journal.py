"""One line per request in the log, for people or for programs; never what was asked or answered."""

from __future__ import annotations

import datetime
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from logging.handlers import QueueHandler
from queue import Full, Queue
from typing import TYPE_CHECKING, Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from nextn.engine.statistics import Statistics

_log = logging.getLogger("nextn.server.requests")

_MOST_PATH = 120


@dataclass(slots=True)
class _Texts:
    """The texts that a request had written."""

    model: str = ""
    reasons: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    writing_seconds: float = 0.0

    def fields(self) -> dict[str, Any]:
        speed = self.tokens / self.writing_seconds if self.writing_seconds > 0 else 0.0
        return {
            "model": self.model,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "tokens": self.tokens,
            "tokens_per_second": round(speed, 1),
            "drafted": self.drafted,
            "accepted": self.accepted,
            "finish_reason": ",".join(dict.fromkeys(self.reasons)),
        }


_texts: ContextVar[_Texts | None] = ContextVar("nextn_texts", default=None)


def note_text(model: str, statistics: Statistics, finish_reason: str) -> None:
    """Remember a text of the present request for its line in the log."""
    texts = _texts.get()
    if texts is None:
        return
    texts.model = model
    texts.reasons.append(finish_reason)
    texts.prompt_tokens += statistics.prompt_tokens
    texts.cached_tokens += statistics.cached_tokens
    texts.tokens += statistics.tokens
    texts.drafted += statistics.drafted
    texts.accepted += statistics.accepted
    texts.writing_seconds += max(statistics.writing_seconds, 0.0)


class Journal:
    """Writes the line of each request to the log when it has been answered.

    Args:
        app: the application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, in ASGI's way."""
        if scope["type"] != "http" or not _log.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        texts = _Texts()
        token = _texts.set(texts)
        try:
            await self._app(scope, receive, note_status)
        finally:
            _texts.reset(token)
            fields = {
                "method": scope["method"],
                "path": scope["path"][:_MOST_PATH],
                "status": status,
                "seconds": round(time.perf_counter() - started, 4),
                "client": (scope.get("client") or ("",))[0],
            }
            if texts.reasons:
                fields |= texts.fields()
            quiet = status in (200, 304) and scope["path"].startswith(_QUIET)
            _log.log(logging.DEBUG if quiet else logging.INFO, "request", extra={"fields": fields})


_QUIET = ("/health", "/v1/health", "/metrics", "/page/")
"""What monitors ask every few seconds, and the parts of the page."""


class _People(logging.Formatter):
    """The time, and a sentence."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None) or {}
        text = _sentence(fields) if "status" in fields else super().format(record)
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock} {text}"


class _Programs(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        fields = getattr(record, "fields", None)
        if fields is None:
            line["message"] = record.getMessage()
            if record.exc_info:
                line["traceback"] = self.formatException(record.exc_info)
        else:
            line |= fields
        return json.dumps(line)


def _sentence(fields: dict[str, Any]) -> str:
    """A request for people; what a client chose is shown without control characters."""
    path = "".join(c if c.isprintable() else "?" for c in fields["path"])
    text = f"{fields['method']} {path} {fields['status']} in {fields['seconds']:.2f} s"
    if "tokens" not in fields:
        return text
    text += (
        f": {fields['model']} read {fields['prompt_tokens']} tokens "
        f"({fields['cached_tokens']} cached), wrote {fields['tokens']} "
        f"at {fields['tokens_per_second']:.0f} tokens/s"
    )
    if fields["drafted"]:
        text += f", {fields['accepted']} of {fields['drafted']} drafted accepted"
    return f"{text}, {fields['finish_reason']}"


@contextmanager
def logging_to_stderr(style: Literal["text", "json"]) -> Iterator[None]:
    """Within it, the log of the server goes to standard error.

    A thread writes it: whoever does not read it, such as a terminal that was stopped with Ctrl-S,
    must not stop the server. What is too much then is dropped.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Programs() if style == "json" else _People())
    records: Queue[logging.LogRecord] = Queue(_MOST_RECORDS)

    def write() -> None:
        while True:
            handler.handle(records.get())
            records.task_done()

    threading.Thread(target=write, name="nextn log", daemon=True).start()
    logger = logging.getLogger("nextn")
    before = logger.handlers, logger.level, logger.propagate
    dropping = _Dropping(records)
    logger.handlers, logger.propagate = [dropping], False
    logger.setLevel(logging.INFO)
    # What it would say of a request that failed is said already.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
        dropping.flush()


_MOST_RECORDS = 10_000
_LAST_SECONDS = 2.0


class _Dropping(QueueHandler):
    """Puts records into a queue, and drops them while it is full."""

    def __init__(self, records: Queue[logging.LogRecord]) -> None:
        super().__init__(records)
        self._records = records

    def flush(self) -> None:
        """Wait until all is written, but not for ever."""
        end = time.monotonic() + _LAST_SECONDS
        while self._records.unfinished_tasks and time.monotonic() < end:
            time.sleep(0.01)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(Full):
            self._records.put_nowait(record)
