"""Which sequences run in the next step, and how many rows each of them gets.

- Every sequence that decodes gets its row in every step. What is left of the step goes to prompts,
  shared so that a short prompt never waits for a long one; while others decode, a step takes fewer
  prompt rows, so that their tokens keep coming.
- A sequence is admitted when the cache has room for all its known tokens, first come, first served.
- When the cache is full, the youngest sequence gives its blocks back and waits at the head of the
  queue. Nothing is lost: its tokens are computed again later, many per step, or found in the
  cache, and the text goes on as if nothing had happened. The oldest sequence always runs, so every
  text ends.
"""

from __future__ import annotations

from collections import deque

from nextn.cache import BlockCache, CacheFullError
from nextn.engine.sequence import Sequence
from nextn.engine.step import Run


class Scheduler:
    """Keeps the sequences that wait and those that run, and makes the runs of each step.

    Args:
        cache: where sequences get their blocks; must hold at least one sequence of any length.
        max_rows: most rows of a step.
        max_sequences: most sequences that run at a time, at most `max_rows`.
        prompt_chunk: most prompt rows of a step.
        shared_prompt_chunk: the same for steps in which other sequences decode.

    Attributes:
        waiting: sequences without blocks, next one first.
        running: sequences with blocks, oldest first.
        max_sequences: most sequences that run at a time.
        preemptions: how often a running sequence lost its blocks.
    """

    def __init__(
        self,
        cache: BlockCache,
        *,
        max_rows: int,
        max_sequences: int,
        prompt_chunk: int,
        shared_prompt_chunk: int,
    ) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._cache = cache
        self._max_rows = max_rows
        self.max_sequences = max_sequences
        self._prompt_chunk = prompt_chunk
        self._shared_prompt_chunk = shared_prompt_chunk

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence and give its blocks back; one that is not there is no error."""
        sequence.release()
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def requeue_all(self) -> None:
        """Start all sequences again from their known tokens, after a broken step.

        The step may have been broken off anywhere, even while a sequence changed queues or blocks
        changed hands. So the cache starts anew, too.
        """
        everyone = dict.fromkeys((*self.running, *self.waiting))
        self.running.clear()
        self.waiting.clear()
        self._cache.reset()
        for sequence in everyone:
            sequence.blocks = None
            if sequence.finish_reason is None:
                self.waiting.append(sequence)

    def plan(self) -> list[Run]:
        """The runs of the next step, decoding ones first; empty if nothing is left to do.

        Every run has room for its rows in the cache; drafts need more.
        """
        if not self._make_room():
            self._admit()
        decoding: list[Run] = []
        reading: list[Run] = []
        for sequence in self.running:
            run = Run.of(sequence)
            (decoding if run.rows == 1 else reading).append(run)
        if not reading:
            return decoding
        chunk = self._shared_prompt_chunk if decoding else self._prompt_chunk
        return decoding + _share(min(chunk, self._max_rows - len(decoding)), reading)

    def _make_room(self) -> bool:
        """Give every running sequence room for its next row; whether one had to be preempted."""
        preempted = False
        index = 0
        while index < len(self.running):
            blocks = self.running[index].blocks
            try:
                if blocks is not None:
                    blocks.reserve(1)
                index += 1
            except CacheFullError:
                self._preempt()
                preempted = True
        return preempted

    def _preempt(self) -> None:
        sequence = self.running.pop()
        sequence.release()
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_sequences:
            sequence = self.waiting[0]
            blocks = sequence.start(self._cache)
            try:
                blocks.reserve(len(sequence.tokens) - blocks.length)
            except CacheFullError:
                sequence.release()
                return
            # Room for the others to go on, or the newcomer would be preempted at once.
            if self._cache.available < len(self.running):
                sequence.release()
                return
            self.running.append(sequence)
            self.waiting.popleft()


def _share(rows: int, runs: list[Run]) -> list[Run]:
    """Cut the runs to `rows` rows in total; those that want least get all they want."""
    kept = []
    runs = sorted(runs, key=lambda run: run.rows)
    for index, run in enumerate(runs):
        share = min(run.rows, -(-rows // (len(runs) - index)))
        rows -= share
        if share:
            kept.append(run.cut(share))
    return kept
