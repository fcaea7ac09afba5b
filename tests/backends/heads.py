"""Executors with tiny heads, and the rows and chains that the tests of them run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nextn.backends import BLOCK_TOKENS, Chains, Executor, Rows
from nextn.backends.cpu import CpuExecutor
from nextn.backends.reference import ReferenceExecutor
from nextn.files import open_checkpoint
from nextn.models.nextn_head import HeadedModel, load_head_plan
from nextn.plan import fuse
from tests.support.tiny_gguf import TinyHead, write_tiny_model

BINS = 16
BLOCKS = 12  # of a sequence
SLOTS = 3


def headed_model(path: Path, family: str, head: TinyHead, **settings: Any) -> tuple[Any, Any]:
    """Write a tiny model with a head inside; the described model, and its weights."""
    weights = write_tiny_model(path, family, head=head, **settings)
    checkpoint = open_checkpoint(path)
    return load_head_plan(checkpoint, checkpoint), weights


@contextmanager
def executor_of(model: HeadedModel, backend: str, *, with_head: bool = True, **settings: Any):
    """An executor with room for SLOTS sequences of BLOCKS blocks."""
    settings |= {
        "context_length": BLOCKS * BLOCK_TOKENS,
        "block_count": SLOTS * BLOCKS,
        "max_rows": 200,
        "head": fuse(model.head) if with_head else None,
    }
    executor = (
        ReferenceExecutor(model.checkpoint, fuse(model.trunk), **settings)
        if backend == "reference"
        else CpuExecutor(model.checkpoint, fuse(model.trunk), **{"threads": 2, **settings})
    )
    yield executor
    executor.close()


def block_tables() -> np.ndarray:
    """SLOTS sequences, whose blocks lie scattered."""
    ids = np.random.default_rng(3).permutation(SLOTS * BLOCKS)
    return ids.astype(np.int32).reshape(SLOTS, -1)


def rows_of(parts: Sequence[tuple[int, int, Sequence[int]]], *, wanted: Sequence[int] = ()) -> Rows:
    """Rows of several slots: (slot, first position, tokens); `wanted` slots' last rows want logits.

    Give the slots in ascending order.
    """
    tokens = [token for _, _, part in parts for token in part]
    positions = [at + i for _, at, part in parts for i in range(len(part))]
    slots = [slot for slot, _, part in parts for _ in part]
    wants = [
        slot in wanted and i == len(part) - 1 for slot, _, part in parts for i in range(len(part))
    ]
    return Rows(
        np.array(tokens, np.int32),
        np.array(positions, np.int32),
        np.array(slots, np.int32),
        np.array(wants, np.bool_),
        block_tables(),
    )


def chains_of(depths: Sequence[int], **settings: Any) -> Chains:
    """Chains of these depths; greedy, without an end, and as sure as the head, by default."""
    count = len(depths)

    def each(name: str, default: float, kind: type) -> np.ndarray:
        return np.broadcast_to(np.array(settings.get(name, default), kind), count).copy()

    by_bin = (np.arange(BINS, dtype=np.float32) + np.float32(0.5)) / np.float32(BINS)
    return Chains(
        np.array(depths, np.int32),
        each("temperature", 0.0, np.float64),
        each("top_k", 0, np.int32),
        each("top_p", 1.0, np.float64),
        each("min_p", 0.0, np.float64),
        each("seeds", 0, np.uint64),
        each("least", 0.0, np.float64),
        settings.get("chances", np.broadcast_to(by_bin, (count, 1, BINS)).copy()),
    )


def fill(
    executor: Executor, tokens: Sequence[int], chunks: Sequence[int] = (40,), slot: int = 0
) -> None:
    """Run trunk and head over all tokens but the last, in chunks of these lengths, repeated."""
    position, turn = 0, 0
    while position < len(tokens) - 1:
        size = min(chunks[turn % len(chunks)], len(tokens) - 1 - position)
        rows = rows_of([(slot, position, tokens[position : position + size])])
        executor.step(rows)
        executor.draft(rows, Chains.none())
        position += size
        turn += 1
