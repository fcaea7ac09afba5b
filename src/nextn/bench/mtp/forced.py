"""How well a head follows the trunk, position by position of a given text (teacher forcing).

Speculation shows a head only the positions that drafts happen to start at. Here a chain of drafts
starts after every token of a text that the trunk wrote greedily, so that two heads can be compared
on the same positions, whatever else decides about drafts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nextn.backends import BLOCK_TOKENS, Chains, Executor, Rows
from nextn.speculate import Draft, SpeculationStatistics

HEAD = "head"


def forced_acceptance(
    executor: Executor, prompt: Sequence[int], text: Sequence[int], depth: int = 3
) -> SpeculationStatistics:
    """Compare the most probable tokens of a head with a text, from each of its positions on.

    `acceptance_at` of the result is the share of right first tokens, of right second ones where the
    first was right, and so on.

    Args:
        executor: with a head; the contents of its cache are lost.
        prompt: at least one token.
        text: what the trunk writes after it, greedily.
        depth: tokens of each chain.

    Raises:
        ValueError: the executor has no head, there is no prompt, or the context is too small.
    """
    if not executor.has_head:
        raise ValueError("[bench] the executor has no head")
    tokens = [*prompt, *text]
    if not prompt or len(tokens) > executor.context_length:
        raise ValueError(
            f"[bench] {len(prompt)} tokens of a prompt and {len(text)} of a text in a context of "
            f"{executor.context_length}"
        )
    known = len(prompt) - 1
    for start in range(0, known, executor.max_rows):
        rows = _rows(tokens, start, min(start + executor.max_rows, known))
        executor.step(rows)
        executor.draft(rows, Chains.none())
    result = SpeculationStatistics()
    # A chain leaves hidden states of the head where the trunk's belong, from its first row on. So
    # the trunk computes a row after the chain that starts there.
    for position in range(known, len(tokens) - 1):
        row = _rows(tokens, position, position + 1)
        row.wants_logits[:] = True
        drafted = executor.draft(row, Chains.greedy(min(depth, len(tokens) - 1 - position)))
        chain = drafted.tokens[0, : drafted.counts[0]].tolist()
        following = tokens[position + 1 : position + 1 + len(chain)]
        right = [a == b for a, b in zip(chain, following, strict=True)]
        accepted = right.index(False) if False in right else len(right)
        result.record(Draft(chain, [1.0] * len(chain), HEAD), accepted)
        executor.step(_rows(tokens, position, position + 1))
    return result


def _rows(tokens: Sequence[int], start: int, end: int) -> Rows:
    """Rows of one sequence, whose blocks are the first ones of the cache; none wants logits."""
    count = end - start
    blocks = -(-len(tokens) // BLOCK_TOKENS)
    return Rows(
        np.array(tokens[start:end], np.int32),
        np.arange(start, end, dtype=np.int32),
        np.zeros(count, np.int32),
        np.zeros(count, np.bool_),
        np.arange(blocks, dtype=np.int32)[np.newaxis],
    )
