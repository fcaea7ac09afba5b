"""The block cache against a model that keeps nothing but texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nextn.cache import BlockCache, CacheFullError, SequenceBlocks

SIZE = 4
TOKENS = st.lists(st.integers(0, 1), max_size=14)  # two letters, so that texts often begin alike


class CacheMachine(RuleBasedStateMachine):
    """Writes each committed token into its place, and reads the texts back from there."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = BlockCache(9, SIZE)
        self.memory = np.full((9, SIZE), -1)
        self.open: list[tuple[SequenceBlocks, list[int]]] = []
        self.private: list[SequenceBlocks] = []
        self.written: set[tuple[int, ...]] = set()  # prefixes of full blocks, evicted ones too

    @rule()
    def open_private(self) -> None:
        before = self.cache.cached, self.cache.used
        blocks = self.cache.open_private()
        assert (self.cache.cached, self.cache.used, blocks.length) == (*before, 0)
        self.private.append(blocks)
        self.open.append((blocks, []))

    @rule(tokens=TOKENS)
    def open_sequence(self, tokens: list[int]) -> None:
        cached_before = self.cache.cached
        used_before = self.cache.used
        blocks = self.cache.open(tokens)
        assert blocks.length % SIZE == 0
        assert blocks.length <= max(len(tokens) - 1, 0)
        assert tuple(tokens[: blocks.length]) in self.written | {()}
        assert self.cache.used - used_before == cached_before - self.cache.cached
        # As long as it is held, it must be found.
        for other, text in self.open:
            if other in self.private:
                continue
            shared = 0
            while shared + SIZE < len(tokens) and tokens[: shared + SIZE] == text[: shared + SIZE]:
                if len(text) < shared + SIZE:
                    break
                shared += SIZE
            assert blocks.length >= shared
        self.open.append((blocks, tokens[: blocks.length]))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=TOKENS, rejected=st.integers(0, 6))
    def extend(self, data: st.DataObject, tokens: list[int], rejected: int) -> None:
        blocks, text = data.draw(st.sampled_from(self.open))
        before = self.cache.free, self.cache.cached, self.cache.used, blocks.table.tolist()
        try:
            blocks.reserve(len(tokens) + rejected)
        except CacheFullError:
            needed = -(-(len(text) + len(tokens) + rejected) // SIZE) - len(before[3])
            assert needed > self.cache.available
            after = self.cache.free, self.cache.cached, self.cache.used, blocks.table.tolist()
            assert after == before
            return
        assert blocks.table[: len(before[3])].tolist() == before[3]
        for index, token in enumerate([*tokens, *[99] * rejected]):
            position = len(text) + index
            self.memory[blocks.table[position // SIZE], position % SIZE] = token
        blocks.commit(tokens)
        text += tokens
        if blocks not in self.private:
            self.written |= {tuple(text[:end]) for end in range(SIZE, len(text) + 1, SIZE)}
        else:
            # Never moved: it is nobody else's.
            assert blocks.table[: len(before[3])].tolist() == before[3]

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.open))
        self.open.remove(entry)
        cached, blocks = self.cache.cached, entry[0]
        blocks.release()
        if blocks in self.private:
            assert self.cache.cached == cached
        entry[0].release()
        assert len(entry[0].table) == entry[0].length == 0

    @invariant()
    def texts_are_where_the_tables_say(self) -> None:
        for blocks, text in self.open:
            assert blocks.length == len(text)
            assert blocks.table.dtype == np.int32
            assert self.memory[blocks.table].reshape(-1)[: len(text)].tolist() == text

    @invariant()
    def blocks_are_shared_only_as_equal_prefixes(self) -> None:
        owners: dict[int, tuple[int, ...] | None] = {}
        for blocks, text in self.open:
            for index, block in enumerate(blocks.table.tolist()):
                end = (index + 1) * SIZE
                full = end <= len(text) and blocks not in self.private
                prefix = tuple(text[:end]) if full else None
                if block in owners:
                    assert prefix is not None
                    assert owners[block] == prefix
                owners[block] = prefix
        prefixes = [prefix for prefix in owners.values() if prefix is not None]
        assert len(set(prefixes)) == len(prefixes)  # equal prefixes are one block
        assert self.cache.used == len(owners)

    @invariant()
    def every_block_is_counted_once(self) -> None:
        cache = self.cache
        assert cache.free + cache.cached + cache.used == cache.block_count
        assert cache.available == cache.free + cache.cached


CacheMachine.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestCache = CacheMachine.TestCase


def write(cache: BlockCache, tokens: list[int]) -> SequenceBlocks:
    blocks = cache.open(tokens)
    blocks.reserve(len(tokens) - blocks.length)
    blocks.commit(tokens[blocks.length :])
    return blocks


def test_a_prefix_leaves_at_least_one_token_to_compute() -> None:
    cache = BlockCache(8, SIZE)
    write(cache, list(range(8))).release()
    assert cache.open(list(range(8))).length == 4
    assert cache.open(list(range(9))).length == 8


def test_a_block_that_is_not_full_is_not_shared_and_not_kept() -> None:
    cache = BlockCache(8, SIZE)
    blocks = write(cache, list(range(7)))
    assert cache.open(list(range(7))).length == 4
    blocks.release()
    assert cache.cached == 0  # the full one is held by the sequence above
    assert cache.free == 7


def test_private_blocks_neither_find_others_nor_are_found() -> None:
    cache = BlockCache(8, SIZE)
    held = write(cache, [1] * 9)
    blocks = cache.open_private()
    assert blocks.length == 0
    blocks.reserve(12)
    table = blocks.table.tolist()
    blocks.commit([*[1] * 8, *[2] * 4])
    assert blocks.table.tolist() == table
    assert not set(table) & set(held.table.tolist())
    assert cache.open([*[1] * 8, *[2] * 9]).length == 8
    blocks.release()
    assert (cache.cached, cache.free) == (0, 8 - 3)


def test_rejected_rows_cost_no_block_and_no_copy() -> None:
    cache = BlockCache(8, SIZE)
    blocks = write(cache, [1, 2, 3])
    for _ in range(10):
        blocks.reserve(4)
        table = blocks.table.tolist()
        blocks.commit([])
    assert blocks.table.tolist() == table
    assert (blocks.length, cache.used) == (3, 2)


def test_the_longest_idle_prefix_goes_first_and_from_its_end() -> None:
    cache = BlockCache(4, SIZE)
    old, new = [1] * 8, [2] * 8
    write(cache, old).release()
    write(cache, new).release()
    other = cache.open([3])
    other.reserve(SIZE)
    other.commit([3] * SIZE)
    assert cache.open([*old, 0]).length == 4
    assert cache.open([*new, 0]).length == 8


def test_low_blocks_are_used_first() -> None:
    cache = BlockCache(100, SIZE)
    assert write(cache, [1] * 9).table.tolist() == [0, 1, 2]


def test_a_full_cache_says_so_and_changes_nothing() -> None:
    cache = BlockCache(3, SIZE)
    blocks = write(cache, [1] * 8)
    with pytest.raises(CacheFullError, match="2 blocks wanted, 1 of 3 left"):
        blocks.reserve(5)
    assert cache.free == 1
    blocks.reserve(4)


def test_committing_without_room_is_a_defect() -> None:
    blocks = BlockCache(3, SIZE).open([])
    with pytest.raises(ValueError, match="without room"):
        blocks.commit([1])


@pytest.mark.parametrize(("count", "size"), [(0, 4), (4, 0)])
def test_an_empty_cache_is_a_defect(count: int, size: int) -> None:
    with pytest.raises(ValueError, match="blocks of"):
        BlockCache(count, size)


def test_every_block_that_is_handed_out_counts_as_used_once_more() -> None:
    cache = BlockCache(2, 4)
    uses = cache.uses
    first = cache.open([])
    first.reserve(8)
    assert uses.tolist() == [1, 1]
    first.commit(range(6))
    first.release()
    # One block stays in the cache and is found; the other is free.
    again = cache.open(list(range(6)))
    again.reserve(2)
    assert sorted(uses.tolist()) == [1, 2]
    again.release()
    cache.reset()
    other = cache.open([])
    other.reserve(8)
    assert sorted(uses.tolist()) == [2, 3]
    assert cache.uses is uses
