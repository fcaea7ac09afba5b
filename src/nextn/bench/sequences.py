"""Sequences of random tokens in an executor: filled to a depth, then stepped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nextn.backends import BLOCK_TOKENS, Executor, Rows


def blocks_needed(lengths: Sequence[int]) -> int:
    """Cache blocks for sequences of these lengths."""
    return sum(-(-length // BLOCK_TOKENS) for length in lengths)


class Sequences:
    """Sequences of fixed room. What lies behind a depth may be written again and again.

    Args:
        executor: has at least `blocks_needed(lengths)` cache blocks.
        lengths: positions that each sequence has room for; the first one needs most.
        seed: of the tokens. Which tokens they are changes no time.
    """

    def __init__(self, executor: Executor, lengths: Sequence[int], *, seed: int = 0) -> None:
        self._executor = executor
        self._random = np.random.default_rng(seed)
        self._depths = [0] * len(lengths)
        self._tables = np.zeros((len(lengths), blocks_needed([max(lengths)])), np.int32)
        first = 0
        for table, length in zip(self._tables, lengths, strict=True):
            blocks = blocks_needed([length])
            table[:blocks] = np.arange(first, first + blocks)
            first += blocks

    def fill(self, depth: int, count: int, *, told: Callable[[int], None] | None = None) -> None:
        """See to it that the first `count` sequences hold at least `depth` tokens.

        Args:
            depth: tokens.
            count: sequences.
            told: is called with the number of tokens of every step.
        """
        for sequence in range(count):
            for start in range(self._depths[sequence], depth, self._executor.max_rows):
                tokens = min(self._executor.max_rows, depth - start)
                self._step([sequence], start, tokens, logits=0)
                if told is not None:
                    told(tokens)
            self._depths[sequence] = max(self._depths[sequence], depth)

    def prompt(self, tokens: int, depth: int) -> None:
        """Read a prompt behind `depth` tokens of the first sequence; logits for its last token."""
        for start in range(0, tokens, self._executor.max_rows):
            count = min(self._executor.max_rows, tokens - start)
            self._step([0], depth + start, count, logits=int(start + count == tokens))

    def decode(self, position: int, count: int) -> None:
        """One token of each of the first `count` sequences."""
        self._step(range(count), position, 1, logits=1)

    def verify(self, rows: int, depth: int) -> None:
        """One step of the first sequence with logits for all rows, as when drafts are checked."""
        self._step([0], depth, rows, logits=rows)

    def _step(self, sequences: Sequence[int], position: int, tokens: int, *, logits: int) -> None:
        """`tokens` rows of each sequence, the last `logits` of which want logits."""
        count = len(sequences)
        positions = np.arange(position, position + tokens, dtype=np.int32)
        wants = np.arange(tokens) >= tokens - logits
        vocab_size = self._executor.vocab_size
        self._executor.step(
            Rows(
                self._random.integers(0, vocab_size, count * tokens, dtype=np.int32),
                np.tile(positions, count),
                np.repeat(np.asarray(sequences, np.int32), tokens),
                np.tile(wants, count),
                self._tables,
            )
        )
