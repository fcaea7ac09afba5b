"""One engine for many asyncio tasks: a thread of its own runs the steps.

The thread owns the engine. What others want of it comes through a queue and is done between two
steps; what the steps wrote goes back to the event loop in one call. So no lock is held while a step
runs, a slow reader never holds up the thread, and a text that nobody reads any more is cancelled
before the next step.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from nextn.engine.session import Generation
from nextn.errors import EngineError, NextnError, RequestError

if TYPE_CHECKING:
    from nextn.engine.engine import Engine
    from nextn.engine.events import Event, FinishReason, Token
    from nextn.engine.request import GenerationRequest
    from nextn.engine.sequence import Sequence
    from nextn.engine.statistics import Statistics

T = TypeVar("T")

_HAND_OVER_SECONDS = 0.016
"""Least time between two times that tokens are given to the event loop.

Each time costs the loop, and whoever reads, some 0.1 ms per text of a processor that computes the
next step meanwhile. Most displays show no more than 60 pictures per second.
"""

_log = logging.getLogger("nextn.engine")


class AsyncEngine:
    """Runs an engine in a thread, for the tasks of one event loop.

    Made inside a running event loop; use it as an async context manager, or call `close`. All its
    methods are for tasks of that loop.

        async with model.async_engine() as engine:
            async for token in engine.open(model.request("Once upon a time")):
                print(token.text, end="")

    Args:
        engine: what runs the requests; nobody else may use it from now on.

    Attributes:
        steps: steps so far.
        busy_sequences: sum over the steps of the texts that were being written.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._commands: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        # A forgotten stream cancels its text; one that is being read is kept in `_reading`.
        self._streams: WeakValueDictionary[int, AsyncTokenStream] = WeakValueDictionary()
        self._reading: set[AsyncTokenStream] = set()
        self._closed = False
        self.steps = 0
        self.busy_sequences = 0
        self._thread = threading.Thread(target=self._work, name="nextn engine", daemon=True)
        self._thread.start()

    @property
    def running(self) -> int:
        """Texts that are being written."""
        return self._engine.running

    @property
    def waiting(self) -> int:
        """Texts that wait for room, or to be noticed."""
        return self._engine.waiting + self._commands.qsize()

    @property
    def max_sequences(self) -> int:
        """Most texts that are written at a time."""
        return self._engine.max_sequences

    @property
    def preemptions(self) -> int:
        """How often a text lost its place in the cache, and waited to get it back."""
        return self._engine.preemptions

    @property
    def cache_usage(self) -> float:
        """Share of the cache that texts hold, from 0 to 1."""
        return self._engine.cache.used / self._engine.cache.block_count

    def open(self, request: GenerationRequest) -> AsyncTokenStream:
        """Submit a request.

        Raises:
            RequestError: it is not possible, or the engine is closed.
        """
        if self._closed:
            raise RequestError("the model is closed; load it again")
        sequence = self._engine.prepare(request)
        stream = self._streams[sequence.id] = AsyncTokenStream(self, sequence)
        self._commands.put(lambda: self._engine.enqueue(sequence))
        return stream

    async def generate(self, request: GenerationRequest) -> Generation:
        """Write a whole text.

        Raises:
            RequestError: it is not possible, or the engine was closed meanwhile.
            LogitsError: the model's logits allow no choice.
        """
        async with self.open(request) as stream:
            return await stream.collect()

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Call a function with the engine, in its thread and between two steps.

        Raises:
            RequestError: the engine is closed.
            Exception: whatever the function raises.
        """
        if self._closed:
            raise RequestError("the model is closed; load it again")
        result: Future[T] = Future()

        def work() -> None:
            if result.set_running_or_notify_cancel():
                try:
                    result.set_result(function(self._engine))
                except BaseException as error:  # it belongs to whoever called
                    result.set_exception(error)

        self._commands.put(work)
        return await asyncio.wrap_future(result)

    async def close(self) -> None:
        """End all texts, whose streams raise `RequestError`, and the thread."""
        if not self._closed:
            self._closed = True
            for stream in list(self._streams.values()):
                stream._fail(RequestError("the model was closed before the text was finished"))
                stream.close()
            self._commands.put(None)
        await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _end(self, sequence: Sequence) -> None:
        """Cancel a sequence, unless it has ended; may be called from a finaliser."""
        self._commands.put(lambda: self._engine.cancel(sequence))

    def _work(self) -> None:
        """The thread: commands and steps in turn; it sleeps when there is nothing to do."""
        engine, commands = self._engine, self._commands
        held: list[Event] = []
        handed_over = 0.0
        while True:
            while not commands.empty() or not (engine.running or engine.waiting):
                command = commands.get()
                if command is None:
                    return
                try:
                    command()
                except Exception:  # it must not end the texts of others
                    _log.exception("the engine could not do what it was asked to")
                # It may hold the last reference to a request, or a whole text.
                del command
            events = self._step()
            self.steps += 1
            self.busy_sequences += engine.running
            held += events
            now = time.perf_counter()
            if held and (now - handed_over >= _HAND_OVER_SECONDS or any(map(_is_urgent, events))):
                if not self._hand_over(held):
                    return
                held = []
                handed_over = now

    def _step(self) -> list[Event]:
        try:
            return self._engine.step()
        except Exception as error:
            _log.exception("a step failed")
            return self._engine.end_failed(
                EngineError(f"the step failed: {type(error).__name__}; see the log of the server")
            )

    def _hand_over(self, events: list[Event]) -> bool:
        """Give the events of a step to the loop; False if it is gone."""
        try:
            self._loop.call_soon_threadsafe(self._deliver, events)
        except RuntimeError:
            return False
        return True

    def _deliver(self, events: list[Event]) -> None:
        streams = self._streams
        for sequence, token, error in events:
            stream = streams.get(sequence.id)
            if stream is not None:
                if token is None:
                    stream._fail(error or EngineError("the text was broken off"))
                else:
                    stream._push(token)


def _is_urgent(event: Event) -> bool:
    """Whether somebody waits for this very event: the begin, the end or the failure of a text."""
    token = event.token
    return (
        token is None
        or token.finish_reason is not None
        or token.position == len(event.sequence.request.prompt)
    )


class AsyncTokenStream:
    """The tokens of one text as they are written. Made by `AsyncEngine.open`.

    It is read by one task. Closing it early, or forgetting it, cancels the generation. A slow
    reader slows nothing down: what it has not read waits here, the tokens of one context at most.
    """

    def __init__(self, engine: AsyncEngine, sequence: Sequence) -> None:
        self._engine = engine
        self._sequence = sequence
        self._inbox: list[Token] = []
        self._written: list[Token] = []
        self._error: NextnError | None = None
        self._finished = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def statistics(self) -> Statistics:
        """Counts and times; they are final when the last token has been read."""
        return self._sequence.statistics

    @property
    def seed(self) -> int:
        """The seed of the noise: the request's own, or the one that was drawn."""
        return self._sequence.sampler.seed

    @property
    def prompt(self) -> list[int]:
        """The token ids that the text continues."""
        return self._sequence.request.prompt

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the text ended; None until the last token has been read."""
        return self._written[-1].finish_reason if self._written else None

    async def read(self) -> list[Token]:
        """The tokens written since the last call; waits for one if there is none.

        It may be cancelled and called again: no token is lost.

        Returns:
            One or more tokens, often those of one step; none after the end of the text.

        Raises:
            RequestError: the engine was closed.
            LogitsError: the model's logits allow no choice.
            EngineError: a step failed.
        """
        if not self._inbox and not self._finished:
            await self._wait()
        tokens, self._inbox = self._inbox, []
        if not tokens and self._error is not None:
            raise self._error
        self._written += tokens
        return tokens

    async def collect(self) -> Generation:
        """Read the stream to its end, and return the whole text, what was read before included.

        Raises:
            RequestError, LogitsError, EngineError: see `read`.
        """
        while await self.read():
            pass
        return Generation.of(self._written, self.seed, self.statistics)

    def close(self) -> None:
        """Cancel the generation; one that has ended already is no error."""
        if not self._finished:
            self._finished = True
            self._engine._end(self._sequence)
            self._wake()

    async def _wait(self) -> None:
        if self._waiter is not None:
            raise RuntimeError("[async_engine] a stream is read by one task at a time")
        self._waiter = self._engine._loop.create_future()
        self._engine._reading.add(self)
        try:
            await self._waiter
        finally:
            self._engine._reading.discard(self)
            self._waiter = None

    def _push(self, token: Token) -> None:
        if self._finished:
            return
        self._inbox.append(token)
        self._finished = token.finish_reason is not None
        self._wake()

    def _fail(self, error: NextnError) -> None:
        if not self._finished:
            self._error = error
            self.close()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[Token]:
        try:
            while tokens := await self.read():
                for token in tokens:
                    yield token
        finally:
            self.close()

    async def __aenter__(self) -> AsyncTokenStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._finished:
            self._engine._end(self._sequence)
