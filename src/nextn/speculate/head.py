"""The head drafter: asks a prediction head, which runs beside the trunk in the executor.

A head has keys and values of its own for each position, in the same cache blocks as the trunk's. An
entry depends on the tokens up to its position, and on the trunk's hidden states before it; so the
entries of a block that several texts share are right for all of them, and a text that begins with
blocks of the prefix cache finds the head's part of them filled, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS, Chains, Drafted, Executor, Rows
from nextn.speculate.base import Committed, Draft, Want
from nextn.speculate.head_chances import HeadChances

_IDLE_STEPS = 64
"""A head that was not asked for a draft in so many steps reads no prompts of several texts.

The prompt of a single text is read, so that a first draft is always cheap enough to be tried.
"""

# Of the chains of a call: temperature, top_k, top_p, min_p and seed of each.
_Settings = tuple[
    NDArray[np.float64],
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.float64],
    NDArray[np.uint64],
]


class FilledBlocks:
    """How many positions of each cache block hold right entries of the head.

    Args:
        uses: int64 [blocks], how often each block was handed out. It is the cache's own array: a
            count that has changed says that a block begins anew.
    """

    def __init__(self, uses: NDArray[np.int64]) -> None:
        self._uses = uses
        self._seen = np.full(len(uses), -1, np.int64)
        self._filled = np.zeros(len(uses), np.int8)

    def length(self, table: NDArray[np.int32], most: int, known: int = 0) -> int:
        """How many positions of a sequence are filled without a gap, from 0 on; at most `most`.

        Args:
            table: its blocks.
            most: positions to look at.
            known: a length of the same sequence from before; only the last of its blocks may be
                another one now.
        """
        index = max(known - 1, 0) // BLOCK_TOKENS
        while index * BLOCK_TOKENS < most:
            block = table[index]
            filled = int(self._filled[block]) if self._seen[block] == self._uses[block] else 0
            if filled < BLOCK_TOKENS:
                return min(index * BLOCK_TOKENS + filled, most)
            index += 1
        return most

    def fill(self, table: NDArray[np.int32], start: int, end: int) -> None:
        """Note that the positions start <= p < end were filled, and all before them."""
        for index in range(start // BLOCK_TOKENS, -(-end // BLOCK_TOKENS)):
            block = table[index]
            self._seen[block] = self._uses[block]
            self._filled[block] = min(end - index * BLOCK_TOKENS, BLOCK_TOKENS)


@dataclass(slots=True)
class _Followed:
    """One sequence.

    Attributes:
        length: committed positions.
        filled: positions that the head has filled; at first, as many as are cached.
        seen: whether the blocks were asked how many these are. What is cached may be the trunk's
            alone, and a block that becomes full may be replaced by an equal one from the cache.
        drafted: the tokens of the last draft, until it is known what became of them.
        probabilities: the head's probabilities of them.
        sampled: whether its tokens are sampled.
    """

    length: int
    filled: int
    seen: bool = False
    drafted: list[int] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    sampled: bool = False


@dataclass(slots=True)
class _Reading:
    """What the head is to read of one sequence: text[start:end], in blocks `table`."""

    text: Sequence[int]
    table: NDArray[np.int32]
    start: int
    end: int


class HeadDrafter:
    """Drafts chains of tokens with the head of an executor.

    Prompts are read by the head right after the trunk, chunk by chunk; those of several texts
    only if it was asked lately. All else that it has not read is read by the next draft: of the
    positions of a text the cache keeps the trunk's hidden states.

    The chance of each token is estimated from the head's own probability of it, by what became of
    tokens of such probabilities: see `HeadChances`.

    Args:
        executor: has a head.
        uses: int64 [blocks], of the cache: see `FilledBlocks`.
    """

    name = "head"
    free = False

    def __init__(self, executor: Executor, uses: NDArray[np.int64]) -> None:
        self._executor = executor
        self._blocks = FilledBlocks(uses)
        self._chances = HeadChances()
        self._followed: dict[int, _Followed] = {}
        self._settings = _settings([])
        self._settings_of: list[int] = []  # the sequences
        self._idle_steps = 0

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        """Start following a sequence."""
        del tokens
        # What is filled of the cached blocks is seen when their numbers are known.
        self._followed[sequence] = _Followed(cached, cached)

    def close(self, sequence: int) -> None:
        """Forget a sequence; its blocks keep what is in them."""
        self._followed.pop(sequence, None)
        self._settings_of = []

    def behind(self, sequence: int) -> int:
        """Committed positions that the head has not read."""
        state = self._followed[sequence]
        return max(state.length - state.filled, 0)

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """Catch up, and draft a chain for each sequence."""
        if not wants:
            return []
        self._idle_steps = 0
        readings = []
        for want in wants:
            known = len(want.tokens)
            state = self._followed[want.sequence]
            if not state.seen:
                self._see(state, want.table)
            readings.append(_Reading(want.tokens, want.table, state.filled, known))
        caught_up = [reading.end - 1 - reading.start for reading in readings]
        self._read_down_to(readings, self._executor.max_rows, spare=1)
        drafted = self._run(readings, self._chains(wants))
        drafts = []
        for index, want in enumerate(wants):
            count = int(drafted.counts[index])
            state = self._followed[want.sequence]
            state.filled = len(want.tokens)
            state.drafted = drafted.tokens[index, :count].tolist()
            state.probabilities = drafted.probabilities[index, :count].tolist()
            state.sampled = want.sampler.params.temperature > 0.0
            chances = drafted.chances[index, :count].tolist()
            passes = max(count, 1)
            drafts.append(Draft(list(state.drafted), chances, self.name, passes, caught_up[index]))
        return drafts

    def observe(self, committed: Sequence[Committed]) -> None:
        """Learn from the last drafts, and read prompts."""
        prompts: list[Committed] = []
        self._idle_steps += 1
        reads = self._idle_steps <= _IDLE_STEPS or len(self._followed) == 1
        for part in committed:
            state = self._followed[part.sequence]
            if state.drafted:
                self._chances.observe(
                    state.drafted, state.probabilities, part.written, state.sampled
                )
                state.drafted = []
            before, state.length = state.length, state.length + len(part.tokens)
            if before // BLOCK_TOKENS != state.length // BLOCK_TOKENS or not state.seen:
                self._see(state, part.table)
            is_prompt = len(part.tokens) - part.accepted > 1
            if is_prompt and reads and state.length > state.filled:
                prompts.append(part)
        if prompts:
            self._catch_up(prompts)

    def _see(self, state: _Followed, table: NDArray[np.int32]) -> None:
        """Ask the blocks how much of a sequence is filled."""
        known = state.filled if state.seen else 0
        state.filled = self._blocks.length(table, state.length, known)
        state.seen = True

    def _catch_up(self, committed: Sequence[Committed]) -> None:
        """Read what is committed and was not read."""
        readings = []
        for part in committed:
            state = self._followed[part.sequence]
            readings.append(_Reading(part.text, part.table, state.filled, state.length))
            state.filled = state.length
        self._read_down_to(readings, 0, spare=0)

    def _read_down_to(self, readings: Sequence[_Reading], rows: int, *, spare: int) -> None:
        """Fill the cache until at most `rows` rows are left to read.

        Args:
            readings: what is to be read; their starts move.
            rows: at least `spare` for each of them.
            spare: rows at the end of each reading that are left out.
        """
        while sum(reading.end - reading.start for reading in readings) > rows:
            room = self._executor.max_rows
            parts = []
            for reading in readings:
                end = min(reading.end - spare, reading.start + room)
                parts.append(_Reading(reading.text, reading.table, reading.start, end))
                room -= end - reading.start
                reading.start = end
            self._run(parts, Chains.none())

    def _run(self, readings: Sequence[_Reading], chains: Chains) -> Drafted:
        """Run the head over all that is to be read; the last rows start the chains, if any."""
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        last: list[int] = []  # row of each reading
        for slot, reading in enumerate(readings):
            tokens += reading.text[reading.start : reading.end]
            positions += range(reading.start, reading.end)
            slots += [slot] * (reading.end - reading.start)
            last.append(len(tokens) - 1)
        wants = np.zeros(len(tokens), np.bool_)
        if len(chains.depths):
            wants[last] = True
        if len(readings) == 1:
            tables = readings[0].table[np.newaxis]
        else:
            tables = np.zeros((len(readings), max(len(r.table) for r in readings)), np.int32)
            for table, reading in zip(tables, readings, strict=True):
                table[: len(reading.table)] = reading.table
        rows = Rows(
            np.array(tokens, np.int32),
            np.array(positions, np.int32),
            np.array(slots, np.int32),
            wants,
            tables,
        )
        drafted = self._executor.draft(rows, chains)
        for reading in readings:
            self._blocks.fill(reading.table, reading.start, reading.end)
        return drafted

    def _chains(self, wants: Sequence[Want]) -> Chains:
        sequences = [want.sequence for want in wants]
        if self._settings_of != sequences:
            self._settings_of, self._settings = sequences, _settings(wants)
        tables = [self._chances.table(want.sampler.params.temperature > 0.0) for want in wants]
        return Chains(
            np.array([want.limit for want in wants], np.int32),
            *self._settings,
            np.array([want.least for want in wants], np.float64),
            tables[0][np.newaxis] if len(tables) == 1 else np.array(tables),
        )


def _settings(wants: Sequence[Want]) -> _Settings:
    """How the tokens of chains are chosen, which does not change as long as a text is written."""
    params = [want.sampler.params for want in wants]
    return (
        np.array([each.temperature for each in params], np.float64),
        np.array([each.top_k for each in params], np.int32),
        np.array([each.top_p for each in params], np.float64),
        np.array([each.min_p for each in params], np.float64),
        np.array([want.sampler.seed for want in wants], np.uint64),
    )
