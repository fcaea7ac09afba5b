"""One engine shared by several consumers: whoever waits for a token runs the next step for all."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from nextn.engine.engine import Engine
from nextn.engine.events import Event, FinishReason, Token
from nextn.engine.interrupts import DeferredInterrupts
from nextn.engine.request import GenerationRequest
from nextn.engine.sequence import Sequence
from nextn.engine.statistics import Statistics
from nextn.errors import RequestError


@dataclass(frozen=True, slots=True)
class Generation:
    """A finished text.

    Attributes:
        text: what was written, without the end token or stop string.
        events: its tokens one by one, with their provenance and log probabilities; the last is the
            end token, or the token that completed a stop string, if there was one.
        finish_reason: "stop", "length" or "context".
        seed: of the noise; the same request with it gives the same text.
        statistics: counts and times.
    """

    text: str
    events: list[Token]
    finish_reason: FinishReason
    seed: int
    statistics: Statistics

    @classmethod
    def of(cls, events: list[Token], seed: int, statistics: Statistics) -> Generation:
        """Of all tokens of a stream that was read to its end.

        Raises:
            RequestError: the last one is missing, since the stream was closed.
        """
        # The sequence may have ended after the stream was closed; then its text is not whole here.
        reason = events[-1].finish_reason if events else None
        if reason is None:
            raise RequestError("the stream was closed before the text was finished")
        return cls("".join(token.text for token in events), events, reason, seed, statistics)

    @property
    def tokens(self) -> list[int]:
        """The token ids."""
        return [token.id for token in self.events]

    @property
    def logprobs(self) -> list[float | None]:
        """Natural-log probability of each token; None where it was not asked for."""
        return [token.logprob for token in self.events]


class Session:
    """Opens streams of tokens on an engine. Safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inboxes: dict[int, deque[Event]] = {}
        self._lock = threading.RLock()
        self._closed: str | None = None

    def open(self, request: GenerationRequest) -> TokenStream:
        """Submit a request.

        Raises:
            RequestError: it is not possible, or the session is closed.
        """
        with self._lock:
            self._check_open()
            sequence = self._engine.submit(request)
            self._inboxes[sequence.id] = deque()
        return TokenStream(self, sequence)

    def close(self, reason: str = "the model is closed; load it again") -> None:
        """End all streams; they raise a `RequestError` with this message from now on."""
        with self._lock:
            self._closed = self._closed or reason
            self._inboxes.clear()

    def next_event(self, sequence: Sequence) -> Event:
        """The next event of a sequence; runs steps until there is one.

        Raises:
            StopIteration: its stream was closed.
        """
        with self._lock:
            self._check_open()
            inbox = self._inboxes.get(sequence.id)
            if inbox is None:
                raise StopIteration  # another thread closed the stream
            while not inbox:
                if not (self._engine.running or self._engine.waiting):
                    raise RuntimeError(f"[session] no event is left for sequence {sequence.id}")
                # An interrupt between a step and its delivery would lose the tokens of others.
                with DeferredInterrupts():
                    for event in self._engine.step():
                        other = self._inboxes.get(event.sequence.id)
                        if other is not None:
                            other.append(event)
            return inbox.popleft()

    def end(self, sequence: Sequence) -> None:
        """Cancel a sequence, unless it has ended, and forget its events."""
        with self._lock:
            if self._inboxes.pop(sequence.id, None) is not None:
                self._engine.cancel(sequence)

    def _check_open(self) -> None:
        if self._closed is not None:
            raise RequestError(self._closed)


class TokenStream(Iterator[Token]):
    """The tokens of one text as they are written. Made by `Session.open`.

    Closing it early, or forgetting it, cancels the generation.
    """

    def __init__(self, session: Session, sequence: Sequence) -> None:
        self._session = session
        self._sequence = sequence
        self._open = True
        self._written: list[Token] = []

    @property
    def statistics(self) -> Statistics:
        """Counts and times so far."""
        return self._sequence.statistics

    @property
    def seed(self) -> int:
        """The seed of the noise: the request's own, or the one that was drawn."""
        return self._sequence.sampler.seed

    @property
    def prompt(self) -> list[int]:
        """The token ids that the text continues."""
        return self._sequence.request.prompt

    def collect(self) -> Generation:
        """Read the stream to its end, and return the whole text, what was read before included.

        Raises:
            LogitsError: the model's logits allow no choice.
            RequestError: the stream was closed before the text was finished.
        """
        for _ in self:
            pass
        return Generation.of(self._written, self.seed, self.statistics)

    def close(self) -> None:
        """Cancel the generation; one that has ended already is no error."""
        if self._open:
            self._open = False
            self._session.end(self._sequence)

    def __next__(self) -> Token:
        if not self._open:
            raise StopIteration
        try:
            _, token, error = self._session.next_event(self._sequence)
        except BaseException:
            self.close()
            raise
        if token is None:
            self.close()
            raise error or StopIteration
        self._written.append(token)
        if token.finish_reason is not None:
            self.close()
        return token

    def __enter__(self) -> TokenStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
