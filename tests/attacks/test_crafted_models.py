"""Crafted model descriptions: metadata costs nothing and breaks nothing before it is checked."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from nextn.errors import FileFormatError
from nextn.files import Checkpoint, open_checkpoint
from nextn.models import load_model_plan
from tests.support.small_models import small_model


def open_small(folder: Path, family: str, **keys: float | str) -> Checkpoint:
    path = folder / "model.gguf"
    path.write_bytes(small_model(family, **keys))
    return open_checkpoint(path)


@pytest.mark.parametrize(
    ("family", "keys"),
    [
        ("qwen3", {"attention__key_length": 2**31}),
        ("gemma3", {"attention__key_length": 2**32 - 1}),
        ("llama", {"embedding_length": 2**28}),
        ("llama", {"attention__key_length": 2**24, "rope__dimension_count": 2**24}),
    ],
)
def test_a_huge_head_is_refused_before_its_tables_are_made(
    tmp_path: Path, family: str, keys: dict[str, float | str]
) -> None:
    tracemalloc.start()
    try:
        with (
            open_small(tmp_path, family, **keys) as checkpoint,
            pytest.raises(FileFormatError, match=f"{family}.attention.key_length: .*at most"),
        ):
            load_model_plan(checkpoint)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 22
