"""Blocks of the key/value cache: counted by reference, shared where texts begin alike.

The keys and values of a position depend on all the tokens up to it. So a full block is described
completely by its own tokens and the block before it, and the full blocks of all texts form a tree:
`_Prefix` is a node of it. Looking a text up means walking down from the root, comparing real
tokens. Rules:

- Only full blocks are shared. A block that is still being filled belongs to one sequence and is
  freed with it.
- There is one block per node. When two sequences computed the same block side by side, the second
  one to fill it takes over the first one's and frees its own. Hence whoever holds a block holds all
  blocks before it in the tree.
- A full block that nobody holds stays in the tree until its room is needed; the one idle for
  longest goes first. A sequence lets go of its blocks from the last to the first, so a block
  always goes before the block that it follows, and the tree never loses a branch it still needs.
- A private sequence stays out of the tree: its blocks are all its own, and free when it ends.

Rejecting drafted tokens costs nothing: `reserve` makes room, `commit` moves a length, and rows that
were computed but not committed are overwritten by the next ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_FIRST_TABLE = 16


class CacheFullError(Exception):
    """No block is free and none can be freed: every block is held by some sequence.

    It never reaches a user: the scheduler answers it by letting sequences wait.
    """


class _Prefix:
    """A full block whose contents are known: the tokens in it, after the tokens of its parents."""

    __slots__ = ("block", "children", "parent", "tokens")

    def __init__(self, parent: _Prefix | None, tokens: tuple[int, ...], block: int) -> None:
        self.parent = parent
        self.tokens = tokens
        self.block = block
        self.children: dict[tuple[int, ...], _Prefix] = {}


class BlockCache:
    """Hands out the blocks of one key/value cache.

    Args:
        block_count: number of blocks; ids are 0 <= id < block_count. Low ids are handed out first,
            so that memory which the system provides on first touch stays small.
        block_tokens: positions per block.

    Attributes:
        uses: int64 [blocks], how often each block was handed out to be written anew. Whoever keeps
            something beside the keys and values of a block sees from it when that is outdated.
    """

    def __init__(self, block_count: int, block_tokens: int) -> None:
        if block_count < 1 or block_tokens < 1:
            raise ValueError(f"[cache] {block_count} blocks of {block_tokens} tokens")
        self.uses = np.zeros(block_count, np.int64)
        self.block_count = block_count
        self.block_tokens = block_tokens
        self.reset()

    def reset(self) -> None:
        """Forget everything: all blocks are free. Sequences made before must not be used again."""
        self._free = list(range(self.block_count - 1, -1, -1))
        self._holders = [0] * self.block_count
        self._prefix_of: list[_Prefix | None] = [None] * self.block_count
        # Known, but held by nobody; oldest first.
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._root = _Prefix(None, (), -1)

    @property
    def free(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    @property
    def cached(self) -> int:
        """Blocks that no sequence holds but that a later one may find."""
        return len(self._idle)

    @property
    def used(self) -> int:
        """Blocks that at least one sequence holds."""
        return self.block_count - len(self._free) - len(self._idle)

    @property
    def available(self) -> int:
        """Blocks that can be handed out now: free ones and cached ones."""
        return len(self._free) + len(self._idle)

    def open(self, tokens: Sequence[int]) -> SequenceBlocks:
        """Start a sequence with the longest cached prefix of `tokens`.

        The prefix consists of full blocks and covers at most len(tokens) - 1 tokens, so that at
        least one row is left to compute: the logits after a text are not cached.

        Args:
            tokens: the text to look up, from position 0 on.
        """
        sequence = SequenceBlocks(self)
        size = self.block_tokens
        node = self._root
        for end in range(size, len(tokens), size):
            child = node.children.get(tuple(tokens[end - size : end]))
            if child is None:
                break
            self._hold(child.block)
            sequence._append_known(child)
            node = child
        return sequence

    def open_private(self) -> SequenceBlocks:
        """Start a sequence that neither finds anything in the cache nor leaves anything there."""
        return SequenceBlocks(self, private=True)

    def _hold(self, block: int) -> None:
        if self._holders[block] == 0:
            del self._idle[block]
        self._holders[block] += 1

    def _drop(self, block: int) -> None:
        self._holders[block] -= 1
        if self._holders[block] > 0:
            return
        if self._prefix_of[block] is None:
            self._free.append(block)
        else:
            self._idle[block] = None

    def _take(self) -> int:
        """A block for a new holder; there must be an available one."""
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._idle.popitem(last=False)
            self._forget(block)
        self._holders[block] = 1
        self.uses[block] += 1
        return block

    def _forget(self, block: int) -> None:
        prefix = self._prefix_of[block]
        if prefix is None or prefix.parent is None or prefix.children:
            raise RuntimeError(f"[cache] block {block} was freed before the blocks that follow it")
        del prefix.parent.children[prefix.tokens]
        self._prefix_of[block] = None

    def _share(self, parent: _Prefix | None, tokens: tuple[int, ...], block: int) -> _Prefix:
        """Enter a block that has just become full; returns the node, maybe of an older block."""
        parent = parent or self._root
        known = parent.children.get(tokens)
        if known is None:
            known = parent.children[tokens] = _Prefix(parent, tokens, block)
            self._prefix_of[block] = known
        else:
            self._hold(known.block)
            self._drop(block)
        return known


class SequenceBlocks:
    """The blocks of one sequence. Made by `BlockCache.open` or `open_private`.

    Attributes:
        length: committed tokens: positions 0 <= p < length have been computed and are text. Starts
            at the length of the cached prefix.
    """

    __slots__ = (
        "_blocks",
        "_cache",
        "_full",
        "_last_full",
        "_partial",
        "_private",
        "_table",
        "length",
    )

    def __init__(self, cache: BlockCache, *, private: bool = False) -> None:
        self.length = 0
        self._private = private
        self._cache = cache
        self._blocks = 0
        self._table = np.zeros(_FIRST_TABLE, np.int32)
        self._full = 0  # blocks that are in the tree of prefixes
        self._last_full: _Prefix | None = None
        self._partial: list[int] = []  # committed tokens of the block that is being filled

    @property
    def table(self) -> NDArray[np.int32]:
        """int32 [blocks]: position p lives in block `table[p // block_tokens]`.

        A view that is valid until the next `reserve`, `commit` or `release`.
        """
        return self._table[: self._blocks]

    def reserve(self, count: int) -> None:
        """Make room for `count` tokens after `length`.

        Raises:
            CacheFullError: there are not enough blocks; nothing was changed.
        """
        cache = self._cache
        missing = -(-(self.length + count) // cache.block_tokens) - self._blocks
        if missing <= 0:
            return
        if missing > cache.available:
            raise CacheFullError(
                f"[cache] {missing} blocks wanted, {cache.available} of {cache.block_count} left"
            )
        for _ in range(missing):
            self._append(cache._take())

    def commit(self, tokens: Sequence[int]) -> None:
        """Append computed tokens to the text; blocks that become full can be shared from now on.

        Args:
            tokens: the tokens at positions length, length + 1, ...; reserved and computed.

        Raises:
            ValueError: more tokens than were reserved (a defect of the caller).
        """
        size = self._cache.block_tokens
        if self.length + len(tokens) > self._blocks * size:
            raise ValueError(f"[cache] {len(tokens)} tokens committed without room for them")
        self.length += len(tokens)
        if self._private:
            return
        partial = self._partial
        partial.extend(tokens)
        while len(partial) >= size:
            block = int(self._table[self._full])
            node = self._cache._share(self._last_full, tuple(partial[:size]), block)
            self._table[self._full] = node.block
            self._full += 1
            self._last_full = node
            del partial[:size]

    def release(self) -> None:
        """Let go of all blocks. Full ones stay cached; releasing twice does nothing."""
        # The last block first: see the module's docstring.
        while self._blocks:
            self._blocks -= 1
            self._cache._drop(int(self._table[self._blocks]))
        self.length = 0
        self._full = 0
        self._last_full = None
        self._partial.clear()

    def _append(self, block: int) -> None:
        if self._blocks == len(self._table):
            self._table = np.concatenate((self._table, np.zeros_like(self._table)))
        self._table[self._blocks] = block
        self._blocks += 1

    def _append_known(self, node: _Prefix) -> None:
        self._append(node.block)
        self._full += 1
        self._last_full = node
        self.length += len(node.tokens)
