"""Each family's description against Hugging Face transformers, in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn.backends import BLOCK_TOKENS, Rows, create_executor
from nextn.files import open_checkpoint
from tests.models.tiny_families import DATA, FAMILIES, TOKENS
from tests.support.tiny_gguf import write_tiny_model


def logits_of(path: Path, backend: str, chunk: int) -> np.ndarray:
    executor = create_executor(
        open_checkpoint(path), backend=backend, threads=1, context_length=64, block_count=2
    )
    parts = []
    for start in range(0, len(TOKENS), chunk):
        tokens = TOKENS[start : start + chunk]
        count = len(tokens)
        rows = Rows(
            np.array(tokens, np.int32),
            np.arange(start, start + count, dtype=np.int32),
            np.zeros(count, np.int32),
            np.ones(count, np.bool_),
            np.array([[1, 0]], np.int32),
        )
        parts.append(executor.step(rows).copy())
    assert len(TOKENS) <= BLOCK_TOKENS * 2
    return np.concatenate(parts)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("chunk", [40, 7])
def test_the_reference_gives_the_logits_of_transformers(
    family: str, chunk: int, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", family, **FAMILIES[family])
    expected = np.load(DATA / f"{family}.npy")
    got = logits_of(tmp_path / "tiny.gguf", "reference", chunk)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_native_executor_agrees_but_for_the_float16_cache(family: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", family, **FAMILIES[family])
    expected = np.load(DATA / f"{family}.npy")
    got = logits_of(tmp_path / "tiny.gguf", "cpu", 40)
    assert np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()
