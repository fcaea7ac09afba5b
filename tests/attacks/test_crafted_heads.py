"""Head files with damage in any place: one clear error, or a head that can be run."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

from nextn.errors import FileFormatError, NextnError
from nextn.files import open_checkpoint
from nextn.heads import find_head
from nextn.models.nextn_head import HeadedModel
from tests.backends.heads import chains_of, executor_of, rows_of
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

SMALL = {"hidden": 32, "layers": 1, "heads": 2, "kv_heads": 1, "ffn": 32, "seed": 1}


def run(model: HeadedModel) -> None:
    """One draft by each executor."""
    rows = rows_of([(0, 0, [1, 2, 3])], wanted=[0])
    for backend in ("cpu", "reference"):
        with executor_of(model, backend) as executor:
            executor.step(rows_of([(0, 0, [1, 2])]))
            tokens = executor.draft(rows, chains_of([3])).tokens
            assert ((tokens >= 0) & (tokens < 320)).all()


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_head_is_refused_or_runs(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    write_tiny_model(tmp_path / "tiny.gguf", "llama", **SMALL)
    good = tmp_path / "good.gguf"
    write_tiny_head(good, "llama", TinyHead(draft_vocab=range(0, 320, 40)), **SMALL)
    content = good.read_bytes()
    # The names and sizes of tensors stand before the data, which is the larger part.
    header = content.index(b"blk.1.nextn.draft_vocab") + 200
    trunk = open_checkpoint(tmp_path / "tiny.gguf")
    ran = 0
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 2])):
            at = chance.choice([chance.randrange(header), chance.randrange(len(content))])
            damaged[at] = chance.choice([damaged[at] ^ (1 << chance.randrange(8)), 0, 255])
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damaged)
        with contextlib.suppress(NextnError):
            model = find_head(trunk, path).model
            assert model is not None
            with np.errstate(all="ignore"):
                run(model)
            ran += 1
    assert ran > 5


def test_a_list_of_tokens_is_no_matrix(tmp_path: Path) -> None:
    write_tiny_head(tmp_path / "head.gguf", "llama", TinyHead(draft_vocab=range(9)), **SMALL)
    tensor = open_checkpoint(tmp_path / "head.gguf").tensors["blk.1.nextn.draft_vocab"]
    assert tensor.integers().tolist() == list(range(9))
    tensor.check_finite()
    for read in (tensor.decode, lambda: tensor.decode_rows([0])):
        with pytest.raises(FileFormatError, match=r"draft_vocab: is a list of integers"):
            read()
