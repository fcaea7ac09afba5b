"""Which blocks of the key/value cache belong to whom; the executor owns their contents."""

from __future__ import annotations

from nextn.cache.blocks import BlockCache, CacheFullError, SequenceBlocks

__all__ = ["BlockCache", "CacheFullError", "SequenceBlocks"]
