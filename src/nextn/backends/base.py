"""The contract of an executor: it runs steps, and a step is a list of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from nextn.backends.drafting import Chains, Drafted

BLOCK_TOKENS = 32
"""Positions per block of the key/value cache; the native kernels are built for this number."""

CACHE_ELEMENT_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
"""How the `cpu` executor can keep keys and values, and the bytes that an element then takes.

`f16` is float16. `q8_0` has 8 bits per element and a float16 scale per 32: about half the memory,
and half the time to read it.
"""

CACHE_TYPES = tuple(CACHE_ELEMENT_BYTES)


@dataclass(slots=True)
class Rows:
    """The rows of one step.

    The rows of a slot are contiguous and have consecutive ascending positions. The key and value of
    a row at position p live in cache block `block_tables[slot, p // BLOCK_TOKENS]`; all positions
    before the slot's first row must have been computed by earlier steps.

    Attributes:
        tokens: int32 [rows], token ids.
        positions: int32 [rows], index of the token in its sequence.
        slots: int32 [rows], which row of `block_tables` belongs to the row's sequence.
        wants_logits: bool [rows].
        block_tables: int32 [slots, blocks per sequence], cache block ids.
    """

    tokens: NDArray[np.int32]
    positions: NDArray[np.int32]
    slots: NDArray[np.int32]
    wants_logits: NDArray[np.bool_]
    block_tables: NDArray[np.int32]


@dataclass(slots=True)
class Observed:
    """The inputs that a matrix was given; see `nextn.plan.Observe`.

    Attributes:
        sums: float64 [columns], sums of squares.
        rows: how many inputs they are of.
    """

    sums: NDArray[np.float64]
    rows: int

    def add(self, sums: NDArray[np.float64], rows: int) -> None:
        """Take in what was observed elsewhere of the same matrix."""
        self.sums = self.sums + sums
        self.rows += rows


class Executor(Protocol):
    """Runs the steps of one model.

    Row invariance: the logits of a row depend only on the tokens at positions 0..p of its own
    sequence; never on the other rows of the step, the number of threads or where a prompt was cut
    into chunks. This holds bit for bit for the `cpu` executor; `reference` promises it only within
    rounding, since NumPy's matrix product picks its order of summation by shape.

    An executor may have a prediction head, whose keys, values and hidden states live in the same
    cache blocks. With or without it, the logits are the same.

    Attributes:
        backend: name of the executor.
        has_head: whether it has a head, so that `draft` may be called.
        vocab_size: width of the logits.
        max_rows: most rows of one step.
        block_count: blocks of the key/value cache.
        context_length: most positions of a sequence.
        threads: threads that compute.
    """

    backend: str
    has_head: bool
    vocab_size: int
    max_rows: int
    block_count: int
    context_length: int
    threads: int

    def step(self, rows: Rows) -> NDArray[np.float32]:
        """Compute the rows, and store their keys and values in the cache.

        Returns:
            float32 [rows that want logits, vocab_size], in the order of the rows; valid until the
            next step.

        Raises:
            ValueError: rows that break the rules of `Rows` (a defect of the caller).
        """
        ...

    def draft(self, rows: Rows, chains: Chains) -> Drafted:
        """Run the head over rows, and draft tokens after some of them.

        The rows fill the head's part of the cache. The trunk must have computed all positions
        before each row's, and the head all positions before the first row of its slot. From the
        first row of a chain on, what is in the cache counts as not computed by the trunk, and from
        the row after it on, as not computed by the head.

        Args:
            rows: tokens that are known; those that want logits start a chain.
            chains: one for each of these.

        Raises:
            ValueError: rows or chains that break the rules (a defect of the caller).
        """
        ...

    def read_hidden(self, layer: int, blocks: NDArray[np.int32]) -> NDArray[np.uint16]:
        """Copy hidden states out of cache blocks, for training.

        Args:
            layer: of hidden states.
            blocks: int32 [blocks], ids of cache blocks.

        Returns:
            uint16 [blocks, BLOCK_TOKENS, width]: the bits of bfloat16 numbers. Positions that were
            not computed hold anything.

        Raises:
            IndexError, ValueError: no such layer or block (a defect of the caller).
        """
        ...

    def read_observed(self) -> dict[str, Observed]:
        """What was observed since the start: by the name of the matrix.

        Empty for plans without `nextn.plan.Observe`.
        """
        ...

    def close(self) -> None:
        """Give back the memory and the threads."""
        ...


class StepLimits(Protocol):
    """What an executor says of the steps that it can run; see `Executor`."""

    max_rows: int
    block_count: int
    vocab_size: int


def check_rows(rows: Rows, limits: StepLimits) -> None:
    """Check the rules of `Rows` that memory safety rests on.

    Args:
        rows: of a step.
        limits: the executor that is to run it.

    Raises:
        ValueError: which rule is broken.
    """
    # Lists, since arrays of a few elements are slow, and most steps have only a few rows.
    tokens, positions, slots = rows.tokens.tolist(), rows.positions.tolist(), rows.slots.tolist()
    count = len(tokens)
    if not 0 < count <= limits.max_rows:
        raise ValueError(f"[step] expected 1 to {limits.max_rows} rows, got {count}")
    if not len(positions) == len(slots) == len(rows.wants_logits) == count:
        raise ValueError("[step] the arrays of the rows differ in length")
    if min(tokens) < 0 or max(tokens) >= limits.vocab_size:
        raise ValueError(f"[step] a token id is outside 0..{limits.vocab_size - 1}")
    tables, blocks = rows.block_tables.shape
    if min(slots) < 0 or max(slots) >= tables:
        raise ValueError(f"[step] a slot is outside 0..{tables - 1}")
    if min(positions) < 0 or max(positions) >= blocks * BLOCK_TOKENS:
        raise ValueError("[step] a position lies outside its block table")
    last: dict[int, int] = {}  # position of each slot
    current = -1
    for slot, position in zip(slots, positions, strict=True):
        if slot != current:
            if slot in last:
                raise ValueError("[step] the rows of a slot are not contiguous")
            current = slot
        elif position != last[slot] + 1:
            raise ValueError("[step] the positions of a slot are not consecutive")
        last[slot] = position
    for slot, end in last.items():
        used = rows.block_tables[slot, : end // BLOCK_TOKENS + 1]
        if used.min() < 0 or used.max() >= limits.block_count:
            most = limits.block_count - 1
            raise ValueError(f"[step] a block id of slot {slot} is outside 0..{most}")
