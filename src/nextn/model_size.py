"""How large the parts of a model get when it is loaded, and the memory that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nextn.backends import BLOCK_TOKENS, check_cache_type
from nextn.engine import MAX_DRAFT
from nextn.engine.memory import MemoryNeed, memory_need
from nextn.errors import RequestError
from nextn.files import Checkpoint

if TYPE_CHECKING:
    from nextn.models.nextn_head import HeadedModel
    from nextn.plan import Plan

DEFAULT_CONTEXT = 8192
"""Positions of a sequence that a model is loaded with, if it was trained for as many.

The cache of a larger context may need more memory than the model, and whoever needs it knows.
"""

_POOL_CONTEXTS = 2
"""Sequences of full length that the cache has room for, if several may run.

They share it: eight sequences of a quarter of the context each fit, and what no sequence needs
keeps old prefixes.
"""

MAX_ROWS = 512
"""Most rows of a step. More read a prompt no faster."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model is loaded with.

    Attributes:
        plan: its fused plan.
        head: the fused plan of its head; None without one.
        context: most tokens of a text.
        block_count: blocks of the key/value cache.
        need: the memory that it takes.
    """

    plan: Plan
    head: Plan | None
    context: int
    block_count: int
    need: MemoryNeed


def size_model(
    checkpoint: Checkpoint,
    context: int | None,
    backend: str,
    max_sequences: int,
    cache_type: str = "f16",
    head: HeadedModel | None = None,
) -> ModelSize:
    """Size the cache of a model for `load`; only the headers of its files are read.

    Raises:
        RequestError: an impossible context or cache type.
        FileFormatError, UnsupportedModelError: as `load`.
    """
    from nextn.models import load_model_plan
    from nextn.plan import fuse

    check_cache_type(cache_type)
    plan = fuse(load_model_plan(checkpoint) if head is None else head.trunk)
    head_plan = None if head is None else fuse(head.head)
    context = _context_length(checkpoint, context)
    pool = context * min(max_sequences, _POOL_CONTEXTS)
    block_count = -(-pool // BLOCK_TOKENS) + max_sequences
    need = memory_need(
        checkpoint if head is None else head.checkpoint,
        plan,
        head=head_plan,
        backend=backend,
        block_count=block_count,
        max_rows=MAX_ROWS,
        logits_rows=min(MAX_ROWS, max_sequences * (1 + MAX_DRAFT)),
        cache_type=cache_type,
    )
    return ModelSize(plan, head_plan, context, block_count, need)


def _context_length(checkpoint: Checkpoint, context: int | None) -> int:
    trained = checkpoint.integer("{arch}.context_length", minimum=1)
    if context is None:
        return min(trained, DEFAULT_CONTEXT)
    if not isinstance(context, int) or not 2 <= context <= trained:
        raise RequestError(
            f"context is {context!r}; allowed: an integer from 2 to {trained}, the positions that "
            "the model was trained for"
        )
    return context
