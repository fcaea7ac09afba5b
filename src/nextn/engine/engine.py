"""The engine: runs any number of requests together, step by step."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Sequence as Items
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nextn.backends.base import BLOCK_TOKENS, Executor
from nextn.cache import BlockCache
from nextn.engine.calibrate import CALIBRATION_SECONDS, measure_drafts, measure_steps
from nextn.engine.events import Event
from nextn.engine.request import GenerationRequest
from nextn.engine.scheduler import Scheduler
from nextn.engine.sequence import Sequence
from nextn.engine.speculation import Speculation
from nextn.engine.statistics import StepTimes
from nextn.engine.step import Run, build_rows, choose, commit
from nextn.errors import NextnError
from nextn.sampling import Choice
from nextn.speculate import (
    Committed,
    DepthController,
    Drafter,
    GrammarDrafter,
    HeadDrafter,
    SpeculationStatistics,
    SuffixDrafter,
    Useless,
)

if TYPE_CHECKING:
    from nextn.text.tokenizer import Tokenizer

SHARED_PROMPT_CHUNK = 128
"""Most prompt rows of a step in which other sequences wait for their next token."""


class Engine:
    """Writes texts with one executor.

    With an executor that keeps row invariance, the text of a request depends on its prompt,
    settings and seed only: not on other requests, drafts, chunks or preemption.

    It is used from one thread at a time.

    Args:
        executor: computes the steps. Its cache must have room for one sequence of full length.
        tokenizer: of the same model.
        drafters: who guesses tokens; by default those of constraints and of suffixes, and the
            head drafter if the executor has a head. None of them may be used by another engine.
        depth: the depth controller, if not the default one.
        prompt_chunk: most prompt rows of a step; by default as many as the executor takes.
        shared_prompt_chunk: the same for steps in which other sequences decode.
        max_sequences: most sequences that run at a time; others wait.

    Attributes:
        cache: which blocks are in use.
    """

    def __init__(
        self,
        executor: Executor,
        tokenizer: Tokenizer,
        *,
        drafters: Items[Drafter] | None = None,
        depth: DepthController | None = None,
        prompt_chunk: int | None = None,
        shared_prompt_chunk: int = SHARED_PROMPT_CHUNK,
        max_sequences: int = 8,
    ) -> None:
        if executor.block_count * BLOCK_TOKENS < executor.context_length:
            raise ValueError(
                f"[engine] {executor.block_count} cache blocks cannot hold one sequence of "
                f"{executor.context_length} tokens"
            )
        chunk = executor.max_rows if prompt_chunk is None else prompt_chunk
        if min(chunk, shared_prompt_chunk, max_sequences) < 1:
            raise ValueError("[engine] chunks and max_sequences must be at least 1")
        self.cache = BlockCache(executor.block_count, BLOCK_TOKENS)
        self._executor = executor
        self._tokenizer = tokenizer
        self._scheduler = Scheduler(
            self.cache,
            max_rows=executor.max_rows,
            max_sequences=min(max_sequences, executor.max_rows),
            prompt_chunk=chunk,
            shared_prompt_chunk=min(chunk, shared_prompt_chunk),
        )
        self._speculation = Speculation(
            self._default_drafters() if drafters is None else drafters,
            DepthController() if depth is None else depth,
        )
        self._numbers = itertools.count(1)
        self._observing = 0.0
        self._events: list[Event] = []
        self._cancelled: deque[Sequence] = deque()
        self._in_step = False
        self._computing = False
        self._cache_is_right = True  # after a step that was broken off
        self._taking_part: list[Sequence] = []  # in the step that runs, or that failed
        self._alone: list[Sequence] = []  # one per step, since a step of them together failed

    def _default_drafters(self) -> list[Drafter]:
        drafters: list[Drafter] = [GrammarDrafter(), SuffixDrafter()]
        if self._executor.has_head:
            drafters.append(HeadDrafter(self._executor, self.cache.uses))
        return drafters

    @property
    def running(self) -> int:
        """Sequences that are being written."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Sequences that wait for room."""
        return len(self._scheduler.waiting)

    @property
    def sequences(self) -> list[Sequence]:
        """The sequences that are being written, oldest first."""
        return list(self._scheduler.running)

    @property
    def max_sequences(self) -> int:
        """Most sequences that are written at a time."""
        return self._scheduler.max_sequences

    @property
    def context_length(self) -> int:
        """Most tokens of a sequence, prompt included."""
        return self._executor.context_length

    @property
    def preemptions(self) -> int:
        """How often a sequence lost its blocks to others, and waited to get them back."""
        return self._scheduler.preemptions

    @property
    def statistics(self) -> SpeculationStatistics:
        """What became of all drafts so far; those of finished requests included."""
        return self._speculation.statistics

    @property
    def useless(self) -> Useless | None:
        """The drafter that was given up because next to none of its drafts were right, if any."""
        return self._speculation.useless

    def calibrate(self, seconds: float = CALIBRATION_SECONDS) -> None:
        """Measure what steps and drafts cost, so that the first drafts are decided well.

        Does nothing unless the cache is empty: what it computes has no meaning.

        Args:
            seconds: the time that the steps may take; the drafts take little.
        """
        if self.cache.free == self.cache.block_count and not self.running:
            steps = measure_steps(self._executor, seconds)
            # A model too slow for that is not made to wait for drafts.
            self._speculation.prime(steps, measure_drafts(self._executor) if steps else [])

    def submit(self, request: GenerationRequest) -> Sequence:
        """Queue a request; it is written by the following steps.

        Raises:
            RequestError: the request is not possible; see `GenerationRequest.check`.
        """
        sequence = self.prepare(request)
        self.enqueue(sequence)
        return sequence

    def prepare(self, request: GenerationRequest) -> Sequence:
        """Check a request and make a sequence of it, for `enqueue`; safe from any thread.

        Raises:
            RequestError: the request is not possible; see `GenerationRequest.check`.
        """
        vocab_size, context_length = self._executor.vocab_size, self._executor.context_length
        request.check(vocab_size, context_length)
        return Sequence(
            next(self._numbers),
            request,
            self._tokenizer,
            vocab_size=vocab_size,
            context_length=context_length,
        )

    def enqueue(self, sequence: Sequence) -> None:
        """Queue a prepared sequence; it is written by the following steps."""
        self._scheduler.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence and give its room back. One that has ended already is no error.

        It may be called at any moment, by a finaliser in the middle of a step too: then the
        sequence is removed when the step is over.
        """
        self._cancelled.append(sequence)
        if not self._in_step:
            self._remove_cancelled()

    def end_failed(self, error: NextnError) -> list[Event]:
        """End the sequences that are to blame for an exception of `step`, and no others.

        Where the computation failed, the cache is right, and nobody knows whose rows it could not
        take: all that took part go on, each alone in its next step. What then fails alone would
        fail again and is ended. As each of these steps ends a sequence or makes it longer, this
        comes to an end even if steps of several sequences always fail.

        Where something else failed, all sequences start again from their tokens. Those that took
        part would come to the same point without being longer, so they are ended; all sequences,
        if it is not known who would have taken part.

        Returns:
            What they wrote before they failed, and the events that say that they did.
        """
        if self._cache_is_right and len(self._taking_part) > 1:
            self._alone, self._taking_part = self._taking_part, []
            return []
        blamed = self._taking_part or [*self._scheduler.running, *self._scheduler.waiting]
        self._taking_part = []
        for sequence in blamed:
            self.cancel(sequence)
        events, self._events = self._events, []
        return events + [Event(sequence, None, error) for sequence in blamed]

    def step(self) -> list[Event]:
        """Run one step of all sequences that can run.

        Returns:
            What was written, in order; nothing if there was nothing to do, or if only parts of
            prompts were read. The token with a `finish_reason` is the last of its sequence.

        Any exception, KeyboardInterrupt included, leaves the engine in order: all sequences can be
        cancelled or go on, from what the cache still has of them.
        """
        try:
            self._in_step = True
            self._taking_part = []
            self._remove_cancelled()
            runs = self._plan()
            self._taking_part = [run.sequence for run in runs]
            if runs:
                self._run(runs)
            self._taking_part = []
        except BaseException:
            self._recover()
            raise
        finally:
            self._in_step = False
            self._remove_cancelled()
        events, self._events = self._events, []
        return events

    def _recover(self) -> None:
        """Put queues and cache in order after a step that was broken off."""
        for sequence in (*self._scheduler.running, *self._scheduler.waiting):
            sequence.drop_unwritten()
        # Nothing but that was being changed: what is in the cache is right.
        self._cache_is_right, self._computing = self._computing, False
        if not self._cache_is_right:
            self._scheduler.requeue_all()

    def _plan(self) -> list[Run]:
        """The runs of the next step."""
        runs = self._scheduler.plan()
        while self._alone:
            suspect = self._alone.pop(0)
            # It may have lost its blocks, or have got no rows; then it is no more suspect.
            alone = [run for run in runs if run.sequence is suspect]
            if alone:
                return alone
        return runs

    def _run(self, runs: list[Run]) -> None:
        """Draft, compute, choose, commit, learn."""
        began = time.perf_counter()
        self._speculation.draft(runs, self._executor.max_rows)
        started = time.perf_counter()
        rows = build_rows(runs)
        # All choices before any change, so that what breaks here breaks nothing.
        self._computing = True
        executing = time.perf_counter()
        logits = self._executor.step(rows)
        executed = time.perf_counter()
        choices = [_choose(run, logits) for run in runs]
        self._computing = False
        now = time.perf_counter()
        times = StepTimes(started - began + self._observing, executed - executing, now)
        committed: list[Committed] = []
        for run, chosen in zip(runs, choices, strict=True):
            run.sequence.mark_started(started)
            if isinstance(chosen, NextnError):
                self._events.append(Event(run.sequence, None, chosen))
                self._cancelled.append(run.sequence)
            else:
                committed.append(self._commit(run, chosen, times))
        observing = time.perf_counter()
        self._speculation.observe(runs, committed, now - started)
        self._observing = time.perf_counter() - observing
        for run in runs:
            if run.sequence.finish_reason is not None:
                self._end(run.sequence)

    def _commit(self, run: Run, choices: list[Choice], times: StepTimes) -> Committed:
        committed, tokens = commit(run, choices)
        self._events += [Event(run.sequence, token) for token in tokens]
        if tokens:
            run.sequence.count_step(committed, times)
            self._speculation.statistics.record(committed.drafted, committed.accepted)
        return committed

    def _remove_cancelled(self) -> None:
        while self._cancelled:
            self._end(self._cancelled.popleft())

    def _end(self, sequence: Sequence) -> None:
        self._scheduler.remove(sequence)
        self._speculation.close(sequence.id)
        if sequence in self._alone:
            self._alone.remove(sequence)


def _choose(run: Run, logits: NDArray[np.float32]) -> list[Choice] | NextnError:
    """The choices of a run, or why it cannot have any: one bad sequence must not end the others."""
    try:
        return choose(run, logits)
    except NextnError as error:
        return error
