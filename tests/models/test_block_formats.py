"""Whole models in every block format, and in all of them at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn import _native
from nextn.backends import Executor
from nextn.backends.cpu import CpuExecutor
from nextn.backends.reference import ReferenceExecutor
from nextn.files import BLOCK_TYPES, open_checkpoint
from nextn.models import load_model_plan
from nextn.plan import fuse
from tests.backends.synthetic import sequence_rows
from tests.support.tiny_gguf import write_tiny_model

BEST, *_ = KERNELS = _native.available_kernels()
SHAPE: dict[str, Any] = {"hidden": 256, "heads": 4, "kv_heads": 4, "head_dim": 64, "ffn": 512}
QUANTISED = [block_type.name for block_type in BLOCK_TYPES.values() if block_type.elements > 1]
MIXED = {
    "token_embd": "NVFP4",
    "attn_q": "IQ4_XS",
    "attn_k": "Q3_K",
    "attn_v": "MXFP4",
    "attn_output": "IQ4_NL",
    "ffn_gate": "Q2_K",
    "ffn_up": "NVFP4",
    "ffn_down": "Q3_K",
    "output": "Q6_K",
}
SCALES = {"token_embd": 1.5, "ffn_up": 0.7, "attn_v": 1.3, "output": 0.9}
TOKENS = [(7 * i * i + 3 * i + 11) % 280 for i in range(40)]


def logits_of(path: Path, kernels: str | None = None, chunk: int = 40) -> np.ndarray:
    """Logits of all tokens: by the reference executor, or by the kernels of an instruction set."""
    limits = {"context_length": 64, "block_count": 160, "max_rows": 64}
    with open_checkpoint(path) as checkpoint:
        plan = fuse(load_model_plan(checkpoint))
        executor: Executor
        if kernels is None:
            executor = ReferenceExecutor(checkpoint, plan, **limits)
        else:
            executor = CpuExecutor(checkpoint, plan, threads=2, kernels=kernels, **limits)
        parts = [
            executor.step(sequence_rows(TOKENS[start : start + chunk], start)).copy()
            for start in range(0, len(TOKENS), chunk)
        ]
        executor.close()
    return np.concatenate(parts)


def assert_close(got: np.ndarray, expected: np.ndarray) -> None:
    # What remains is the quantisation of activations.
    error = np.sqrt(np.mean(np.square(got - expected)) / np.mean(np.square(expected)))
    assert error < 0.03


@pytest.mark.parametrize("name", QUANTISED)
def test_a_model_in_one_format_gives_the_logits_of_the_reference(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "qwen3", types=name, **SHAPE)
    assert_close(logits_of(path, BEST), logits_of(path))


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "qwen2"])
def test_a_mixed_model_with_scales_gives_the_logits_of_the_reference(
    family: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, family, types=MIXED, scales=SCALES, **SHAPE)
    assert_close(logits_of(path, BEST), logits_of(path))


@pytest.mark.parametrize("kernels", KERNELS)
def test_the_logits_of_a_mixed_model_do_not_depend_on_chunks(kernels: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "qwen3", types=MIXED, scales=SCALES, **SHAPE)
    expected = logits_of(path, kernels)
    for chunk in (1, 3, 8):
        np.testing.assert_array_equal(logits_of(path, kernels, chunk), expected)
