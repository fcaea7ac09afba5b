"""Plans that consist of one kernel, for kernels.py and instructions.py.

Three families: products of a matrix of some block format, attention over a cache, and operations
that work on each row by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests can make random blocks

from tests.backends.synthetic import TYPE_BY_NAME, SyntheticCheckpoint

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.cpu import CpuExecutor
from nextn.plan import NormWeight, Plan, Rotary, Tracer, Value, Weight, fuse

FORMATS = [name for name, kind in TYPE_BY_NAME.items() if kind.elements > 1] + ["F16", "BF16"]
HEADS = {"SmolLM2": (9, 3, 64), "Gemma 3 270M": (4, 1, 256), "Qwen3 1.7B": (16, 8, 128)}
"""Query heads, key heads and head width of some models."""

_VOCABULARY = 64
_OUTPUTS = 32  # that want logits: so few that they do not count
_EPSILON = 1e-6


@dataclass
class Kernel:
    """A plan with little but one kernel in it, and an executor of it.

    Args:
        plan: not fused.
        formats: block formats of its tensors, by name; F32 otherwise.
        threads: threads that compute.
        positions: room in the cache.
        rows: most rows of a step.
        cache_type: of keys and values.
    """

    plan: Plan
    formats: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    positions: int = BLOCK_TOKENS
    rows: int = 8
    cache_type: str = "f16"

    def __post_init__(self) -> None:
        plan = fuse(self.plan)
        self.checkpoint = SyntheticCheckpoint(plan, self.formats)
        blocks = -(-self.positions // BLOCK_TOKENS)
        self._tables: NDArray[np.int32] = np.arange(blocks, dtype=np.int32)[np.newaxis]
        self._executor = CpuExecutor(
            self.checkpoint,  # type: ignore[arg-type]
            plan,
            threads=self.threads,
            context_length=blocks * BLOCK_TOKENS,
            block_count=blocks,
            max_rows=self.rows,
            cache_type=self.cache_type,
        )

    def step(self, rows: int, position: int = 0) -> None:
        """Run one step of some rows of a sequence, the last of which wants logits."""
        self._executor.step(
            Rows(
                np.arange(rows, dtype=np.int32) % _OUTPUTS,
                np.arange(position, position + rows, dtype=np.int32),
                np.zeros(rows, np.int32),
                np.arange(rows) == rows - 1,
                self._tables,
            )
        )

    def fill(self, positions: int) -> None:
        """Compute the first positions of the sequence."""
        for start in range(0, positions, self.rows):
            self.step(min(self.rows, positions - start), start)


def product(outputs: int, inputs: int) -> Plan:
    """A product with the matrix "matrix"."""
    step = Tracer()
    x = step.embed(Weight("table", _VOCABULARY, inputs))
    step.logits(
        step.linear(x, Weight("matrix", outputs, inputs)), Weight("output", _OUTPUTS, outputs)
    )
    return step.plan()


def attention(heads: int, kv_heads: int, width: int, layers: int) -> Plan:
    """Layers of attention, each with the last one's result as its queries."""
    step = Tracer()
    x = step.embed(Weight("queries", _VOCABULARY, heads * width))
    key = step.embed(Weight("keys", _VOCABULARY, kv_heads * width))
    value = step.embed(Weight("values", _VOCABULARY, kv_heads * width))
    for _ in range(layers):
        x = step.attend(
            x, key, value, heads=heads, kv_heads=kv_heads, head_width=width, scale=width**-0.5
        )
    step.logits(x, Weight("output", _OUTPUTS, heads * width))
    return step.plan()


def row_operation(name: str, width: int, repeats: int) -> Plan:
    """One of ROW_OPERATIONS, again and again."""
    step = Tracer()
    x = step.embed(Weight("table", _VOCABULARY, width))
    for _ in range(repeats):
        x = ROW_OPERATIONS[name](step, x)
    step.logits(x, Weight("output", _OUTPUTS, width))
    return step.plan()


def _rope(step: Tracer, x: Value) -> Value:
    frequencies = tuple(10_000.0 ** (-i / 32) for i in range(32))
    return step.rope(x, Rotary(frequencies, interleaved=False), heads=x.width // 64)


ROW_OPERATIONS: dict[str, Callable[[Tracer, Value], Value]] = {
    "norm": lambda step, x: step.norm(x, NormWeight(Weight("norm", 1, x.width), _EPSILON)),
    "rotary embedding": _rope,
    "silu": lambda step, x: step.activate(x, x, "silu"),
    "gelu": lambda step, x: step.activate(x, x, "gelu"),
    "addition": lambda step, x: step.add(x, x),
}
