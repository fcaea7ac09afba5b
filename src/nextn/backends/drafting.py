"""What an executor with a prediction head is asked to draft, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextn.backends.base import BLOCK_TOKENS, Rows


@dataclass(slots=True)
class Chains:
    """The chains of drafted tokens that are wanted, by number of chain.

    A chain starts at a row that wants logits, which is the last row of its slot: chain i at the
    i-th such row. A row at position p drafts the token at p + 1; the next row of the chain is that
    token at its position, and so on. The row at position p + d - 1 drafts the d-th token, so the
    slot's block table must reach that far.

    Attributes:
        depths: int32 [chains], most tokens, at least 1.
        temperature: float64 [chains]; this and the next three as in `SamplingParams`. They are
            applied to the head's own logits.
        top_k: int32 [chains].
        top_p: float64 [chains].
        min_p: float64 [chains].
        seeds: uint64 [chains], of the noise; it is the noise that the trunk's choice will have.
        least: float64 [chains]; a chain ends with the token at which the product of its chances
            falls below this.
        chances: float32 [chains, depths, bins], the estimated chance of acceptance of the token at
            a depth (counted from 0; deeper ones use the last row) by the head's probability of it:
            bin b of B is for probabilities from b / B to (b + 1) / B.
    """

    depths: NDArray[np.int32]
    temperature: NDArray[np.float64]
    top_k: NDArray[np.int32]
    top_p: NDArray[np.float64]
    min_p: NDArray[np.float64]
    seeds: NDArray[np.uint64]
    least: NDArray[np.float64]
    chances: NDArray[np.float32]

    @classmethod
    def none(cls) -> Chains:
        """No chains: the rows only fill the head's cache."""
        floats, integers = np.zeros(0, np.float64), np.zeros(0, np.int32)
        chances = np.zeros((0, 1, 1), np.float32)
        seeds = np.zeros(0, np.uint64)
        return cls(integers, floats, integers, floats, floats, seeds, floats, chances)

    @classmethod
    def greedy(cls, depth: int) -> Chains:
        """One chain of the head's most probable tokens, however improbable they are."""
        return cls(
            depths=np.array([depth], np.int32),
            temperature=np.zeros(1, np.float64),
            top_k=np.zeros(1, np.int32),
            top_p=np.ones(1, np.float64),
            min_p=np.zeros(1, np.float64),
            seeds=np.zeros(1, np.uint64),
            least=np.zeros(1, np.float64),
            chances=np.ones((1, 1, 1), np.float32),
        )


@dataclass(slots=True)
class Drafted:
    """The drafted tokens. Only the first `counts[i]` of chain i have a meaning.

    Attributes:
        tokens: int32 [chains, largest depth].
        chances: float32, same shape: the estimated chance of acceptance, given all before it.
        probabilities: float32, same shape: the head's own probability of the token, at
            temperature 1 and before any filter.
        counts: int32 [chains]; a chain ends early also where the head computes NaN.
    """

    tokens: NDArray[np.int32]
    chances: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    counts: NDArray[np.int32]

    @classmethod
    def empty(cls, chains: Chains) -> Drafted:
        """Room for the tokens of these chains."""
        depths = chains.depths.tolist()
        shape = len(depths), max(depths, default=0)
        return cls(
            np.zeros(shape, np.int32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape[0], np.int32),
        )


def check_chains(rows: Rows, chains: Chains, *, block_count: int) -> None:
    """Check the rules of `Chains` for rows that were checked by `check_rows`.

    Raises:
        ValueError: which rule is broken.
    """
    count = int(np.count_nonzero(rows.wants_logits))
    names = ("depths", "temperature", "top_k", "top_p", "min_p", "seeds", "least", "chances")
    if any(len(getattr(chains, name)) != count for name in names):
        raise ValueError(f"[draft] {count} rows want logits, but there are not as many chains")
    if chains.chances.ndim != 3 or min(chains.chances.shape[1:]) < 1:
        raise ValueError("[draft] the table of chances is empty")
    if not count:
        return
    depths = chains.depths.tolist()
    if not all(0 <= each < math.inf for each in chains.temperature.tolist()):
        raise ValueError("[draft] a temperature is negative or not finite")
    if min(depths) < 1 or min(chains.top_k.tolist()) < 0:
        raise ValueError("[draft] a depth is below 1, or a top_k below 0")
    slots = rows.slots.tolist()
    starts = [row for row, wants in enumerate(rows.wants_logits.tolist()) if wants]
    if any(row + 1 < len(slots) and slots[row + 1] == slots[row] for row in starts):
        raise ValueError("[draft] a row that wants logits is not the last of its slot")
    blocks = rows.block_tables.shape[1]
    for row, depth in zip(starts, depths, strict=True):
        end = int(rows.positions[row]) + depth
        if end > blocks * BLOCK_TOKENS:
            raise ValueError("[draft] a chain leaves its block table")
        used = rows.block_tables[slots[row], : -(-end // BLOCK_TOKENS)]
        if used.min() < 0 or used.max() >= block_count:
            raise ValueError(f"[draft] a block id is outside 0..{block_count - 1}")
