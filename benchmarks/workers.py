"""Engines in processes of their own, so that their libraries and threads do not meet.

The protocol is a pair (method, keyword arguments) in one direction, and ("ok", result) or
("error", text) in the other. Times are taken inside of the process, so that the pipe costs nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from peers import BATCH, ENGINES

PAUSE = 0.02
"""Seconds between the work of two engines, at least: idle threads stop spinning meanwhile."""

_WATCHED = 0.005  # seconds in which an idle process uses no time
_IDLE_SHARE = 0.1
_PATIENCE = 5.0


class WorkerError(RuntimeError):
    """A worker that failed or died."""


class Worker:
    """An engine in a process of its own.

    Args:
        engine: one of `peers.ENGINES`.
        settings: arguments of its constructor.
    """

    def __init__(self, engine: str, **settings: Any) -> None:
        self.engine = engine
        spawn = multiprocessing.get_context("spawn")
        self._pipe, remote = spawn.Pipe()
        with tempfile.NamedTemporaryFile(prefix="benchmark-", suffix=".log", delete=False) as log:
            self._log = Path(log.name)
        self._process = spawn.Process(
            target=_serve, args=(remote, engine, settings, str(self._log)), daemon=True
        )
        self._process.start()
        remote.close()
        try:
            self.vocab_size: int = self._receive()
        except WorkerError:
            self.stop()
            raise

    def open(self, **settings: Any) -> int:
        """See `Engine.open`."""
        return int(self._call("open", **settings))

    def close(self, number: int) -> None:
        """See `Engine.close`."""
        self._call("close", number=number)

    def fill(self, number: int, tokens: Sequence[Sequence[int]]) -> None:
        """Put tokens into the first sequences, from position 0 on."""
        self._call("fill", number=number, tokens=tokens)

    def time(
        self,
        number: int,
        tokens: Sequence[Sequence[int]],
        position: int,
        *,
        logits: int,
        repeats: int,
        advance: bool,
    ) -> list[float]:
        """Seconds of some steps, after one that is not counted.

        Args:
            number: of the context.
            tokens: of each of the first sequences.
            position: of the first token.
            logits: how many of the last tokens of each sequence want logits.
            repeats: steps that are counted.
            advance: each step goes on where the last one ended, instead of being the same again.
        """
        seconds: list[float] = self._call(
            "time",
            number=number,
            tokens=tokens,
            position=position,
            logits=logits,
            repeats=repeats,
            advance=advance,
        )
        return seconds

    def wait_until_idle(self) -> None:
        """Wait until no thread of the process runs any more.

        Raises:
            WorkerError: its threads never stop, so that no other engine could be measured.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            before = self._processor_seconds()
            time.sleep(_WATCHED)
            if self._processor_seconds() - before < _IDLE_SHARE * _WATCHED:
                return
            if time.monotonic() > deadline:
                raise WorkerError(f"{self.engine} keeps its threads running")

    def stop(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._log.unlink(missing_ok=True)

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            self._pipe.send((method, arguments))
        except OSError as error:
            raise WorkerError(f"{self.engine} has ended") from error
        return self._receive()

    def _receive(self) -> Any:
        try:
            kind, result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise WorkerError(f"{self.engine} died: {self._last_words()}") from error
        if kind == "error":
            raise WorkerError(f"{self.engine}: {result}")
        return result

    def _last_words(self) -> str:
        """The line of its log that says what failed, or else the last one."""
        lines = self._log.read_text(errors="replace").split("\n")
        failed = [line for line in lines if "assert" in line.lower() or "error" in line.lower()]
        return (failed or [line for line in lines if line.strip()] or ["without a word"])[-1]

    def _processor_seconds(self) -> float:
        """Time that all threads of the process have run; 0 where the system does not say."""
        total = 0
        for path in Path(f"/proc/{self._process.pid}/task").glob("*/schedstat"):
            try:
                total += int(path.read_text().split()[0])
            except (OSError, ValueError, IndexError):
                continue
        return total / 1e9


def _serve(pipe: Connection, engine: str, settings: dict[str, Any], log: str) -> None:
    """What the process runs: answers until the pipe is closed."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        service = _Service(ENGINES[engine](**settings))
        pipe.send(("ok", service.engine.vocab_size))
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))
        return
    while True:
        try:
            method, arguments = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(("ok", getattr(service, method)(**arguments)))
        except Exception as error:
            pipe.send(("error", f"{type(error).__name__}: {error}"))


class _Service:
    """The methods that can be called through the pipe."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.open = engine.open
        self.close = engine.close

    def fill(self, number: int, tokens: Sequence[Sequence[int]]) -> None:
        """See `Worker.fill`."""
        # One after the other: the flash attention of ik_llama.cpp 0.1.5 fails on long chunks of
        # several sequences at once.
        for sequence, its_tokens in enumerate(tokens):
            for start in range(0, len(its_tokens), BATCH):
                chunk = its_tokens[start : start + BATCH]
                self.engine.decode(number, [chunk], start, 1, first=sequence)

    def time(
        self,
        number: int,
        tokens: Sequence[Sequence[int]],
        position: int,
        logits: int,
        repeats: int,
        advance: bool,
    ) -> list[float]:
        """See `Worker.time`."""
        seconds = []
        for n in range(repeats + 1):
            at = position + n * len(tokens[0]) if advance else position
            start = time.perf_counter()
            self.engine.decode(number, tokens, at, logits)
            seconds.append(time.perf_counter() - start)
        return seconds[1:]
