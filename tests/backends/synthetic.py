"""Plans over random weights without a file: what both executors need of a checkpoint, in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.cpu import CpuExecutor
from nextn.backends.reference import ReferenceExecutor
from nextn.files import BLOCK_TYPES, BlockType, decode
from nextn.plan import Plan, Weight
from tests.support.random_blocks import random_blocks

BLOCKS_PER_SEQUENCE = 40
TYPE_BY_NAME = {block_type.name: block_type for block_type in BLOCK_TYPES.values()}


@dataclass
class SyntheticTensor:
    """Stands for `nextn.files.Tensor`."""

    block_type: BlockType
    shape: tuple[int, ...]
    data: NDArray[np.uint8]
    mapped: bool = False

    def check_finite(self) -> None:
        """Tests want weights that are not finite, too."""

    def decode(self) -> NDArray[np.float32]:
        return decode(self.block_type, self.data.reshape(self.shape[0], -1)).reshape(self.shape)

    def decode_rows(self, ids: NDArray[np.int32]) -> NDArray[np.float32]:
        return decode(self.block_type, self.data.reshape(self.shape[0], -1)[ids])


class SyntheticCheckpoint:
    """Random weights for every tensor that a plan names; `types` gives formats by name."""

    def __init__(self, plan: Plan, types: dict[str, str] | None = None, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.path = Path("synthetic.gguf")
        self.tensors: dict[str, SyntheticTensor] = {}
        for weight in plan.weights:
            block_type = TYPE_BY_NAME[(types or {}).get(weight.name, "F32")]
            seed_of_weight = int(rng.integers(1 << 32))
            data = random_blocks(block_type.name, weight.rows, weight.columns, seed_of_weight)
            data = data.reshape(-1)
            if weight.rows == 1 and block_type.name == "F32":  # a norm or a bias: around 1
                data = (data.view(np.float32) + np.float32(1)).view(np.uint8)
            self.tensors[weight.name] = SyntheticTensor(block_type, _shape(weight), data)


def _shape(weight: Weight) -> tuple[int, ...]:
    return (weight.columns,) if weight.rows == 1 else (weight.rows, weight.columns)


def both_executors(
    plan: Plan,
    checkpoint: SyntheticCheckpoint,
    *,
    threads: int = 2,
    kernels: str | None = None,
    cache_type: str = "f16",
) -> tuple[ReferenceExecutor, CpuExecutor]:
    """The reference and the native executor of a plan, with room for four sequences."""
    limits = {
        "context_length": BLOCKS_PER_SEQUENCE * BLOCK_TOKENS,
        "block_count": 4 * BLOCKS_PER_SEQUENCE,
        "max_rows": 64,
    }
    reference = ReferenceExecutor(checkpoint, plan, **limits)  # type: ignore[arg-type]
    native = CpuExecutor(
        checkpoint,  # type: ignore[arg-type]
        plan,
        threads=threads,
        kernels=kernels,
        cache_type=cache_type,
        **limits,
    )
    return reference, native


def block_tables() -> NDArray[np.int32]:
    """Four sequences, whose blocks lie scattered."""
    ids = np.random.default_rng(3).permutation(4 * BLOCKS_PER_SEQUENCE)
    return ids.astype(np.int32).reshape(4, -1)


def sequence_rows(tokens: list[int], position: int = 0, slot: int = 0) -> Rows:
    """Rows of one sequence that all want logits."""
    count = len(tokens)
    return Rows(
        np.array(tokens, np.int32),
        np.arange(position, position + count, dtype=np.int32),
        np.full(count, slot, np.int32),
        np.ones(count, np.bool_),
        block_tables(),
    )


def joined_rows(parts: list[Rows]) -> Rows:
    """Several sequences' rows in one step."""
    return Rows(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("tokens", "positions", "slots", "wants_logits")
        ),
        parts[0].block_tables,
    )
