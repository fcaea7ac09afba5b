"""A good beginning for a head's projection, by least squares.

The head's block is at first the trunk's last one. So the projection should give it what that block
gets in the trunk. What that is at a position can be foreseen, in part, from the embedding of the
token there and the trunk's final state of the position before: linear regression finds how.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS, Executor, Rows, create_executor
from nextn.files import BLOCK_TYPES, Checkpoint, decode
from nextn.models import load_model_plan
from nextn.models.head_tensors import trunk_blocks
from nextn.plan import Embed, Logits, Norm, Plan, StoreHidden, Value, fuse
from nextn.train.shards import StoredText

Floats = NDArray[np.float32]

_BF16 = BLOCK_TYPES[30]
_ROWS = 24_000
_MAX_ROWS = 256
_RIDGE = 1e-3  # of the mean square of the inputs
_EPSILON = 1e-6


def fit_projection(
    trunk: Checkpoint, texts: Sequence[StoredText], *, longest: int, threads: int | None
) -> Floats:
    """Find the matrix that foresees best what the trunk's last block is given.

    Args:
        trunk: the model.
        texts: what it wrote; about 24,000 positions of them are taken.
        longest: positions of a text at most.
        threads: threads that compute.

    Returns:
        `eh_proj` for norms whose weights are 1: float32 [hidden, 2 * hidden].
    """
    plan, scale = _plan_up_to_last_block(trunk)
    width = plan.hidden_layers[0]
    executor = create_executor(
        trunk,
        threads=threads,
        context_length=longest,
        block_count=-(-longest // BLOCK_TOKENS),
        max_rows=_MAX_ROWS,
        plan=fuse(plan),
    )
    products = np.zeros((2 * width, 2 * width))
    targets = np.zeros((2 * width, width))
    taken = 0
    try:
        for text in texts:
            tokens = text.tokens[:longest]
            wanted = _run(executor, np.asarray(tokens, np.int32))
            table = trunk.tensors["token_embd.weight"]
            given = np.zeros((len(tokens), 2 * width))
            given[:, :width] = _normed(table.decode_rows(tokens) * scale)
            given[1:, width:] = _normed(_bfloat16_values(text.hidden[: len(tokens) - 1]))
            products += given.T @ given
            targets += given.T @ wanted
            taken += len(tokens)
            if taken >= _ROWS:
                break
    finally:
        executor.close()
    ridge = _RIDGE * np.trace(products) / len(products)
    fitted = np.linalg.solve(products + ridge * np.eye(len(products)), targets)
    return np.ascontiguousarray(fitted.T, np.float32)


def _plan_up_to_last_block(trunk: Checkpoint) -> tuple[Plan, np.float32]:
    """A plan that keeps what the last block is given, and what embeddings are multiplied by."""
    plan = load_model_plan(trunk)
    first_norm = f"blk.{trunk_blocks(trunk) - 1}.attn_norm.weight"
    at, given = _find_norm(plan, first_norm)
    (logits,) = (op for op in plan.operations if isinstance(op, Logits))
    (embed,) = (op for op in plan.operations if isinstance(op, Embed))
    kept = (*plan.operations[:at], StoreHidden(given, 0, False), Logits(given, logits.weight))
    return replace(plan, operations=kept, hidden_layers=(given.width,)), np.float32(embed.scale)


def _find_norm(plan: Plan, name: str) -> tuple[int, Value]:
    for index, operation in enumerate(plan.operations):
        if isinstance(operation, Norm) and operation.norm.weight.name == name:
            return index, operation.x
    raise ValueError(f"[train] the plan has no norm {name}")


def _run(executor: Executor, tokens: NDArray[np.int32]) -> Floats:
    """What is kept for each token of a text: float32 [tokens, hidden]."""
    blocks = np.arange(-(-len(tokens) // BLOCK_TOKENS), dtype=np.int32)
    for start in range(0, len(tokens), _MAX_ROWS):
        part = np.ascontiguousarray(tokens[start : start + _MAX_ROWS])
        executor.step(
            Rows(
                part,
                np.arange(start, start + len(part), dtype=np.int32),
                np.zeros(len(part), np.int32),
                np.zeros(len(part), np.bool_),
                blocks[None],
            )
        )
    states = executor.read_hidden(0, blocks)
    return _bfloat16_values(states.reshape(-1, states.shape[-1])[: len(tokens)])


def _bfloat16_values(bits: NDArray[np.uint16]) -> Floats:
    """The numbers that bits of bfloat16 stand for."""
    return decode(_BF16, np.ascontiguousarray(bits).view(np.uint8))


def _normed(x: Floats) -> NDArray[np.float64]:
    values = x.astype(np.float64)
    scaled: NDArray[np.float64] = values / np.sqrt(
        np.mean(np.square(values), axis=-1, keepdims=True) + _EPSILON
    )
    return scaled
