"""The trunk writes texts, many at a time, and the hidden state of every position is kept.

Each text has a slot of its own with room for a whole text, so nothing is shared or moved. Row
invariance makes a text the same whatever is written beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nextn.backends.base import BLOCK_TOKENS, Executor, Rows
from nextn.sampling import Sampler, SamplingParams


@dataclass(frozen=True, slots=True)
class Task:
    """A text to be written.

    Attributes:
        index: names the text.
        category: kind of task, such as "code".
        prompt: what it begins with.
        params: how tokens are chosen.
        seed: of the noise.
        most_written: most tokens to write.
    """

    index: int
    category: str
    prompt: list[int]
    params: SamplingParams
    seed: int
    most_written: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text that was written.

    Attributes:
        task: what was asked for.
        tokens: int32 [length], prompt included; the last is an end token unless it was cut off.
        hidden: uint16 [length, hidden], bfloat16 bits of the trunk's state at each position; zeros
            at the last one, which the trunk has not seen.
    """

    task: Task
    tokens: NDArray[np.int32]
    hidden: NDArray[np.uint16]

    @property
    def written_from(self) -> int:
        """Position of the first token that the trunk wrote."""
        return len(self.task.prompt)


class TaskSource(Protocol):
    """Where tasks come from; what was written may lead to further ones."""

    def next_task(self) -> Task | None:
        """A task, or None if there is none at present."""
        ...

    def finished(self, text: Text) -> Text | None:
        """Take a text; returns it if it is wanted."""
        ...


class Writer:
    """Writes texts with one executor.

    Args:
        executor: of the trunk; its plan keeps hidden states in layer 0.
        ends: tokens after which a text ends.
        sequences: texts that are written at a time; the executor must have cache blocks for so many
            of full length.
    """

    def __init__(self, executor: Executor, ends: frozenset[int], sequences: int) -> None:
        self._executor = executor
        self._ends = ends
        self._blocks = -(-executor.context_length // BLOCK_TOKENS)
        if executor.block_count < sequences * self._blocks or executor.max_rows < sequences:
            raise ValueError(f"[write] no room for {sequences} texts")
        self._tables = np.arange(sequences * self._blocks, dtype=np.int32).reshape(sequences, -1)
        self._slots: list[_Slot | None] = [None] * sequences

    def write(self, source: TaskSource) -> Iterator[Text]:
        """Write until the source has no more tasks."""
        while True:
            for number, slot in enumerate(self._slots):
                if slot is None and (task := source.next_task()) is not None:
                    self._slots[number] = _Slot(task, self._executor.vocab_size)
            if not any(self._slots):
                return
            for number in self._step():
                slot = self._slots[number]
                self._slots[number] = None
                if slot is not None and (text := source.finished(self._text(number, slot))):
                    yield text

    def _step(self) -> list[int]:
        """One step of all slots; returns those whose text has ended."""
        parts: list[tuple[int, _Slot, int]] = []
        # Every slot gets a row; what is left goes to prompts, one after the other.
        active = [(number, slot) for number, slot in enumerate(self._slots) if slot is not None]
        room = self._executor.max_rows - len(active)
        for number, slot in active:
            count = min(slot.pending, 1 + room)
            room -= count - 1
            parts.append((number, slot, count))
        rows = _rows(parts, self._tables)
        logits = self._executor.step(rows)
        ended, row = [], 0
        for number, slot, count in parts:
            slot.computed += count
            if slot.pending:
                continue
            slot.choose(logits[row])
            row += 1
            if slot.is_full(self._executor.context_length) or slot.tokens[-1] in self._ends:
                ended.append(number)
        return ended

    def _text(self, number: int, slot: _Slot) -> Text:
        used = self._tables[number, : -(-slot.computed // BLOCK_TOKENS)]
        states = self._executor.read_hidden(0, used)
        hidden = np.zeros((len(slot.tokens), states.shape[-1]), np.uint16)
        hidden[: slot.computed] = states.reshape(-1, states.shape[-1])[: slot.computed]
        return Text(slot.task, np.array(slot.tokens, np.int32), hidden)


class _Slot:
    """A text that is being written.

    Attributes:
        tokens: all of it.
        computed: how many of them have been rows.
    """

    def __init__(self, task: Task, vocab_size: int) -> None:
        self.task = task
        self.tokens = list(task.prompt)
        self.computed = 0
        self._sampler = Sampler(task.params, task.seed, vocab_size)

    @property
    def pending(self) -> int:
        """Tokens that have not been rows."""
        return len(self.tokens) - self.computed

    def choose(self, logits: NDArray[np.float32]) -> None:
        """Write one token."""
        self.tokens.append(self._sampler.choose(logits, self.tokens, len(self.tokens)).token)

    def is_full(self, context_length: int) -> bool:
        """Whether no further token may be written."""
        written = len(self.tokens) - len(self.task.prompt)
        return written >= self.task.most_written or len(self.tokens) >= context_length


def _rows(parts: list[tuple[int, _Slot, int]], tables: NDArray[np.int32]) -> Rows:
    tokens, positions, slots, wants = [], [], [], []
    for number, slot, count in parts:
        start = slot.computed
        tokens.append(slot.tokens[start : start + count])
        positions.append(np.arange(start, start + count, dtype=np.int32))
        slots.append(np.full(count, number, np.int32))
        wanted = np.zeros(count, np.bool_)
        wanted[-1] = start + count == len(slot.tokens)
        wants.append(wanted)
    return Rows(
        np.concatenate(tokens).astype(np.int32),
        np.concatenate(positions),
        np.concatenate(slots),
        np.concatenate(wants),
        tables,
    )
