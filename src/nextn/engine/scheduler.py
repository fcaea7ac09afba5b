"""Which sequences run in the next step, and how many rows each of them gets.

- Every sequence that decodes gets its row in every step. What is left of the step goes to prompts,
  shared so that a short prompt never waits for a long one; while others decode, a step takes fewer
  prompt rows, so that their tokens keep coming.
- A sequence is admitted when the cache has room for all its known tokens. The most urgent are
  first; of these, those of the client with the fewest running sequences; of these, the oldest.
  Nobody overtakes a sequence because that one needs more room.
- A beginning that several sequences share is computed once: while one of them reads it, the others
  wait, and then find it in the cache.
- When the cache is full, the youngest of the least urgent sequences gives its blocks back and waits
  in its old place; also when a more urgent one needs its place. Nothing is lost: its tokens are
  computed again later, many per step, or found in the cache, and the text goes on as if nothing had
  happened. The oldest of the most urgent sequences always runs, so every text ends.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter

from nextn.cache import BlockCache, CacheFullError, SequenceBlocks
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
        waiting: sequences without blocks; most urgent first, then oldest.
        running: sequences with blocks, in the same order.
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
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.preemptions = 0
        self._cache = cache
        self._max_rows = max_rows
        self.max_sequences = max_sequences
        self._prompt_chunk = prompt_chunk
        self._shared_prompt_chunk = shared_prompt_chunk

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        insort(self.waiting, sequence, key=_order)

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
                self.add(sequence)

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
        sequence = self.running[-1]
        self.add(sequence)
        self.running.pop()
        sequence.release()
        self.preemptions += 1

    def _admit(self) -> None:
        passed: set[int] = set()
        # Looking costs time in every step, so that not all that wait for a beginning are looked at.
        while self.waiting and len(passed) < self.max_sequences:
            outranks = bool(self.running) and _urgency(self.waiting[0]) < _urgency(self.running[-1])
            full = len(self.running) >= self.max_sequences
            if full and not outranks:
                return
            sequence = self._next(passed)
            if sequence is None:
                return
            blocks = sequence.start(self._cache)
            if self._is_read_by_another(sequence, blocks):
                sequence.release()
                passed.add(sequence.id)
            elif full:
                sequence.release()
                self._preempt()
            elif self._reserve(sequence, blocks):
                insort(self.running, sequence, key=_order)
                self.waiting.remove(sequence)
            else:
                sequence.release()
                if not outranks:
                    return
                self._preempt()

    def _next(self, passed: set[int]) -> Sequence | None:
        """Who should run next, of the most urgent that wait; None if all of these were passed."""
        urgency = _urgency(self.waiting[0])
        running = Counter(sequence.request.client for sequence in self.running)
        chosen = None
        fewest = 0
        for sequence in self.waiting:
            if _urgency(sequence) != urgency:
                break
            if sequence.id not in passed:
                count = running[sequence.request.client]
                if chosen is None or count < fewest:
                    chosen, fewest = sequence, count
        return chosen

    def _is_read_by_another(self, sequence: Sequence, blocks: SequenceBlocks) -> bool:
        """Whether the first block that is not in the cache is about to be computed anyway."""
        known, tokens = blocks.length, sequence.tokens
        end = known + self._cache.block_tokens
        if end >= len(tokens) or not sequence.request.cache_prompt:
            return False
        for other in self.running:
            if other.blocks is None or not other.request.cache_prompt:
                continue
            if not other.blocks.length < end <= len(other.tokens):
                continue
            if (
                other.tokens[known:end] == tokens[known:end]
                and other.tokens[:known] == tokens[:known]
            ):
                return True
        return False

    def _reserve(self, sequence: Sequence, blocks: SequenceBlocks) -> bool:
        """Make room for all known tokens of a newcomer; whether there was enough."""
        try:
            blocks.reserve(len(sequence.tokens) - blocks.length)
        except CacheFullError:
            return False
        # Room for the others to go on, or the newcomer would be preempted at once.
        return self._cache.available >= len(self.running)


def _urgency(sequence: Sequence) -> int:
    return sequence.request.priority


def _order(sequence: Sequence) -> tuple[int, int]:
    return sequence.request.priority, sequence.id


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
