from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextn.backends import BLOCK_TOKENS, Chains, Drafted, Rows
from nextn.cache import BlockCache
from nextn.sampling import Sampler, SamplingParams
from nextn.speculate import Committed, HeadDrafter, Want
from nextn.speculate.head import FilledBlocks
from nextn.speculate.head_chances import BINS, DEPTHS, HeadChances

# --- What is filled of each block -------------------------------------------------------------


def test_positions_are_filled_up_to_the_first_gap() -> None:
    filled = FilledBlocks(np.zeros(8, np.int64))
    table = np.array([5, 2, 7], np.int32)
    assert filled.length(table, 70) == 0
    filled.fill(table, 0, 20)
    assert filled.length(table, 70) == 20
    assert filled.length(table, 15) == 15
    filled.fill(table, 20, 70)
    assert filled.length(table, 70) == 70
    assert filled.length(table, 96) == 70
    # Another sequence with the same first blocks, the second of which is full.
    assert filled.length(np.array([5, 2, 0], np.int32), 90) == 64
    assert filled.length(np.array([5, 0, 7], np.int32), 90) == 32
    assert filled.length(table, 0) == 0


def test_what_is_known_to_be_filled_is_not_looked_at_again_but_for_its_last_block() -> None:
    uses = np.zeros(8, np.int64)
    filled = FilledBlocks(uses)
    table = np.array([5, 2, 7], np.int32)
    filled.fill(table, 0, 70)
    assert filled.length(table, 96, known=64) == 70
    assert filled.length(table, 96, known=70) == 70
    uses[2] += 1  # copied into another block, say
    assert filled.length(table, 96, known=64) == 32
    assert filled.length(table, 20, known=64) == 20


def test_a_block_that_is_handed_out_again_is_empty() -> None:
    cache = BlockCache(2, BLOCK_TOKENS)
    filled = FilledBlocks(cache.uses)
    first = cache.open([])
    first.reserve(40)
    filled.fill(first.table, 0, 40)
    assert filled.length(first.table, 40) == 40
    first.commit(range(40))
    first.release()
    # The full block is found again, with what is in it; the other one is new.
    again = cache.open(list(range(40)))
    again.reserve(30)
    assert again.length == 32
    assert filled.length(again.table, 62) == 32
    again.release()
    other = cache.open([])
    other.reserve(64)
    assert filled.length(other.table, 64) == 0


# --- Chances ----------------------------------------------------------------------------------


def test_a_head_is_believed_at_first() -> None:
    table = HeadChances().table(sampled=False)
    assert table.shape == (DEPTHS, BINS)
    assert table.dtype == np.float32
    np.testing.assert_allclose(table, np.tile((np.arange(BINS) + 0.5) / BINS, (DEPTHS, 1)))


def test_chances_become_what_is_counted_for_their_probability_and_depth() -> None:
    chances = HeadChances()
    rng = np.random.default_rng(0)
    right = {(0, 0.95): 0.6, (0, 0.3): 0.1, (1, 0.95): 0.3}
    for _ in range(4000):
        probabilities = [rng.choice([0.95, 0.3]), 0.95]
        hits = [rng.random() < right[depth, p] for depth, p in enumerate(probabilities)]
        chances.observe([1, 1], probabilities, [int(hit) for hit in hits], sampled=True)
    table = chances.table(sampled=True)
    for (depth, probability), expected in right.items():
        assert table[depth, int(probability * BINS)] == pytest.approx(expected, abs=0.06)
    # Deeper tokens are taken to be like all depths together, other bins like the head says.
    assert 0.3 < table[5, 15] < 0.65
    assert table[0, 8] == pytest.approx(8.5 / 16)
    np.testing.assert_array_equal(chances.table(False), HeadChances().table(False))


def test_a_token_after_a_wrong_one_and_one_that_is_not_known_are_not_judged() -> None:
    chances = HeadChances()
    chances.observe([1, 2, 3], [0.5, 0.7, 0.9], [1, 9, 3], sampled=False)
    chances.observe([1, 2], [0.5, 0.7], [1], sampled=False)
    expected = HeadChances()
    expected.observe([1, 2], [0.5, 0.7], [1, 9], sampled=False)
    expected.observe([1], [0.5], [1], sampled=False)
    np.testing.assert_array_equal(chances.table(False), expected.table(False))
    assert chances.table(False)[0, 8] > 8.5 / 16
    assert chances.table(False)[1, 11] < 11.5 / 16


def test_no_chance_is_certain() -> None:
    chances = HeadChances()
    for _ in range(3000):
        chances.observe([1], [1.0], [1], sampled=False)
        chances.observe([1], [0.0], [2], sampled=False)
    table = chances.table(False)
    assert 0.0 < table.min() < 0.05
    assert 0.95 < table.max() < 1.0


# --- What is read and when --------------------------------------------------------------------


class RecordingExecutor:
    """Notes what its head is asked for, and drafts the numbers after the last token."""

    max_rows = 16
    has_head = True

    def __init__(self) -> None:
        self.calls: list[tuple[list[tuple[int, int]], int]] = []

    def draft(self, rows: Rows, chains: Chains) -> Drafted:
        assert len(rows.tokens) <= self.max_rows
        assert int(rows.wants_logits.sum()) == len(chains.depths)
        positions = list(zip(rows.slots.tolist(), rows.positions.tolist(), strict=True))
        self.calls.append((positions, len(chains.depths)))
        drafted = Drafted.empty(chains)
        for chain, row in enumerate(np.flatnonzero(rows.wants_logits)):
            depth = int(chains.depths[chain])
            drafted.tokens[chain, :depth] = rows.tokens[row] + 1 + np.arange(depth)
            drafted.probabilities[chain, :depth] = 0.9
            drafted.chances[chain, :depth] = 0.8
            drafted.counts[chain] = depth
        return drafted


def committed(blocks: Any, text: list[int], count: int, **settings: Any) -> Committed:
    """Commit `count` tokens of a text, and say so."""
    tokens = text[blocks.length : blocks.length + count]
    blocks.commit(tokens)
    return Committed(1, tokens, None, text=text, table=blocks.table, **settings)


def test_prompts_are_read_chunk_by_chunk_and_what_was_written_with_the_next_draft() -> None:
    cache = BlockCache(8, BLOCK_TOKENS)
    executor = RecordingExecutor()
    drafter = HeadDrafter(executor, cache.uses)  # type: ignore[arg-type]
    text = list(range(100, 150))
    blocks = cache.open(text)
    blocks.reserve(60)
    drafter.open(1, text, blocks.length)
    drafter.observe([committed(blocks, text, 20)])
    # 20 rows, in passes of at most 16.
    assert [(len(rows), chains) for rows, chains in executor.calls] == [(16, 0), (4, 0)]
    assert drafter.behind(1) == 0
    drafter.observe([committed(blocks, text, 29)])
    assert drafter.behind(1) == 0
    executor.calls.clear()

    sampler = Sampler(SamplingParams(temperature=0.0), 0, 1000)
    (draft,) = drafter.propose([Want(1, 3, text, sampler, blocks.table)])
    assert executor.calls == [([(0, 49)], 1)]
    assert (draft.tokens, draft.passes, draft.caught_up) == ([150, 151, 152], 3, 0)
    assert draft.acceptance == pytest.approx([0.8] * 3)
    assert draft.drafter == "head"

    # Two of three were right. The head reads them with the next draft.
    text += [150, 151, 7]
    part = committed(blocks, text, 3, accepted=2)
    part.next_token = 7
    drafter.observe([part])
    assert drafter.behind(1) == 2
    (draft,) = drafter.propose([Want(1, 2, text, sampler, blocks.table)])
    assert executor.calls[1:] == [([(0, 50), (0, 51), (0, 52)], 1)]
    assert (draft.tokens, draft.caught_up) == ([8, 9], 2)


def test_what_is_written_without_drafts_is_not_read_before_the_next_one() -> None:
    cache = BlockCache(8, BLOCK_TOKENS)
    executor = RecordingExecutor()
    drafter = HeadDrafter(executor, cache.uses)  # type: ignore[arg-type]
    text = list(range(200))
    blocks = cache.open([])
    blocks.reserve(len(text))
    drafter.open(1, text[:10], 0)
    drafter.observe([committed(blocks, text, 10)])
    assert [len(rows) for rows, _ in executor.calls] == [10]
    for _ in range(89):
        drafter.observe([committed(blocks, text, 1)])
    assert len(executor.calls) == 1
    # Nor is a prompt of several texts, if nobody wants drafts.
    drafter.open(2, text[:10], 0)
    drafter.observe([committed(blocks, text, 20)])
    assert len(executor.calls) == 1
    assert drafter.behind(1) == 109

    sampler = Sampler(SamplingParams(temperature=0.0), 0, 1000)
    (draft,) = drafter.propose([Want(1, 1, text[:120], sampler, blocks.table)])
    assert draft.caught_up == 109
    assert [position for rows, _ in executor.calls for _, position in rows] == list(range(120))
    drafter.observe([committed(blocks, text, 20)])
    assert drafter.behind(1) == 0


def test_the_prompt_of_a_single_text_is_always_read() -> None:
    cache = BlockCache(8, BLOCK_TOKENS)
    executor = RecordingExecutor()
    drafter = HeadDrafter(executor, cache.uses)  # type: ignore[arg-type]
    text = list(range(200))
    blocks = cache.open([])
    blocks.reserve(len(text))
    drafter.open(1, text[:10], 0)
    for _ in range(100):
        drafter.observe([committed(blocks, text, 1)])
    drafter.observe([committed(blocks, text, 20)])
    assert drafter.behind(1) == 0


def test_entries_of_a_block_that_is_replaced_by_an_equal_one_are_computed_again() -> None:
    cache = BlockCache(16, BLOCK_TOKENS)
    executor = RecordingExecutor()
    drafter = HeadDrafter(executor, cache.uses)  # type: ignore[arg-type]
    text = list(range(2 * BLOCK_TOKENS))
    blocks = cache.open([])
    blocks.reserve(2 * BLOCK_TOKENS)
    drafter.open(1, text[:BLOCK_TOKENS], 0)
    drafter.observe([committed(blocks, text, BLOCK_TOKENS - 1)])
    assert drafter.behind(1) == 0
    # Another text has the same beginning; no head has read it.
    other = cache.open([])
    other.reserve(BLOCK_TOKENS)
    other.commit(text[:BLOCK_TOKENS])
    executor.calls.clear()
    drafter.observe([committed(blocks, text, 1)])
    assert blocks.table[0] == other.table[0]
    assert drafter.behind(1) == BLOCK_TOKENS
    sampler = Sampler(SamplingParams(temperature=0.0), 0, 1000)
    drafter.propose([Want(1, 1, text[: BLOCK_TOKENS + 1], sampler, blocks.table)])
    read = [position for rows, _ in executor.calls for _, position in rows]
    assert read == list(range(BLOCK_TOKENS + 1))


def test_a_prompt_in_the_cache_that_no_head_has_read_is_read_first() -> None:
    cache = BlockCache(8, BLOCK_TOKENS)
    text = list(range(80))
    other = cache.open(text)
    other.reserve(64)
    other.commit(text[:64])
    executor = RecordingExecutor()
    drafter = HeadDrafter(executor, cache.uses)  # type: ignore[arg-type]
    blocks = cache.open(text)
    blocks.reserve(30)
    assert blocks.length == 64
    drafter.open(1, text, 64)
    sampler = Sampler(SamplingParams(temperature=0.0), 0, 1000)
    drafter.propose([Want(1, 2, text[:65], sampler, blocks.table)])
    read = [position for rows, _ in executor.calls for _, position in rows]
    assert read == list(range(65))
    assert executor.calls[-1][1] == 1
