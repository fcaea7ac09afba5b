"""Figures of the real model against those that follow from llama.cpp's own logits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from nextn.files import open_checkpoint
from nextn.files.sources import ModelSource
from nextn.text.tokenizer import load_tokenizer
from nextn.tools.compare import CompareSettings, compare_models
from tests.tools.compare import naive

CONTEXT = 40
TEXT = (
    "The tide had gone out far enough to walk to the island. Nobody had done so for years, since "
    "the path was hidden for all but two hours of the day, and those who missed the time had to "
    "wait on the rocks until the evening. She took a lamp, a loaf of bread and the old map, and "
    "told the keeper of the lighthouse that she would be back before dark. He looked at the sky, "
    "then at his watch, and said that the wind would turn by noon. It did, and with it came the "
    "first of the boats that everybody had believed to be lost since the great storm of spring."
)

pytestmark = pytest.mark.models


def test_figures_agree_with_those_of_llama_cpp(smollm2_path: Path, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    llama = llama_cpp.Llama(
        str(smollm2_path),
        n_ctx=CONTEXT,
        logits_all=True,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
    )
    checkpoint = open_checkpoint(smollm2_path)
    ids = llama.tokenize(TEXT.encode(), add_bos=True)
    assert ids == load_tokenizer(checkpoint.tokenizer).encode(TEXT)
    begin = checkpoint.tokenizer.bos_id if checkpoint.tokenizer.add_bos else None
    chunks = [ids[n : n + CONTEXT] for n in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
    logits, losses = [], []
    for chunk in chunks:
        llama.reset()
        llama.eval(chunk if begin is None else [begin, *chunk[1:]])
        logits.append(np.array(llama.scores[: len(chunk)]))
        for position in range(CONTEXT // 2, CONTEXT - 1):
            row = logits[-1][position].astype(np.float64)
            total = row.max() + math.log(np.exp(row - row.max()).sum())
            losses.append(total - row[chunk[position + 1]])
    naive.write_logits_file(tmp_path / "llama.kld", CONTEXT, chunks, logits)
    found = compare_models(
        None,
        ModelSource(smollm2_path, "smollm2"),
        CompareSettings(logits=tmp_path / "llama.kld", threads=1),
    )
    assert found.positions == len(losses) >= 50
    perplexity = math.exp(sum(losses) / len(losses))
    assert found.base_perplexity.value == pytest.approx(perplexity, rel=1e-3)
    assert found.perplexity is not None
    assert found.perplexity.value == pytest.approx(perplexity, rel=0.03)
    assert found.divergence is not None
    # Both round the same weights' inputs to 8 bits, each in its way.
    assert found.divergence.kl.mean.value < 0.01
    assert found.divergence.same_top.value > 0.9
