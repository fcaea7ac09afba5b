"""Sampled text is distributed as the trunk says, exactly, with the help of a head or without.

NEXTN_TEST_SAMPLES is the number of tokens that are compared.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.cpu import CpuExecutor
from nextn.engine import Engine, GenerationRequest
from nextn.files import open_checkpoint
from nextn.models.nextn_head import load_head_plan
from nextn.plan import fuse
from nextn.sampling import SamplingParams
from nextn.text.tokenizer import load_tokenizer
from tests.sampling import oracle
from tests.support.tiny_gguf import TinyHead, write_tiny_model

PROMPT = [17, 3, 200, 41, 5]
LENGTH = 120
BINS = 50
SETTINGS = {
    "plain": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "cold": {"temperature": 0.3, "top_k": 0, "top_p": 0.9, "min_p": 0.0},
    "hot": {"temperature": 1.2, "top_k": 30, "top_p": 0.95, "min_p": 0.02},
}


@pytest.mark.parametrize("draft", ["off", 4])
@pytest.mark.parametrize("name", SETTINGS)
def test_sampled_text_with_a_head_has_the_exact_distribution(
    name: str, draft: int | str, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama", head=TinyHead(noise=0.4), layers=1, heads=2, head_dim=32)
    checkpoint = open_checkpoint(path)
    model = load_head_plan(checkpoint, checkpoint)
    executor = CpuExecutor(
        model.checkpoint,
        fuse(model.trunk),
        head=fuse(model.head),
        context_length=LENGTH + BLOCK_TOKENS,
        block_count=64,
        max_rows=LENGTH,
        threads=1,
    )
    engine = Engine(executor, load_tokenizer(checkpoint.tokenizer))
    wanted = int(os.environ.get("NEXTN_TEST_SAMPLES", "2000"))
    shares: list[float] = []
    rng = np.random.default_rng(5)
    for seed in range(-(-wanted // (LENGTH - len(PROMPT)))):
        params = SamplingParams(seed=seed, **SETTINGS[name])
        request = GenerationRequest(
            prompt=PROMPT, sampling=params, max_tokens=LENGTH - len(PROMPT), draft=draft
        )
        sequence = engine.submit(request)
        while engine.running or engine.waiting:
            engine.step()
        shares += ranks(executor, list(sequence.tokens), params, rng)
    executor.close()
    if draft != "off":
        assert engine.statistics.by_drafter["head"].accepted > len(shares) / 20
    counts, _ = np.histogram(shares, BINS, (0, 1))
    assert stats.chisquare(counts).pvalue > 1e-3


def ranks(
    executor: CpuExecutor, text: list[int], params: SamplingParams, rng: np.random.Generator
) -> list[float]:
    """Where each written token lies in the trunk's distribution of it: uniform in 0..1 if right.

    The share of the tokens with lower ids, plus a random part of the token's own.
    """
    count = len(text)
    rows = Rows(
        np.array(text, np.int32),
        np.arange(count, dtype=np.int32),
        np.zeros(count, np.int32),
        np.ones(count, np.bool_),
        np.arange(-(-count // BLOCK_TOKENS), dtype=np.int32)[np.newaxis],
    )
    logits = executor.step(rows).astype(np.float64)
    found = []
    for position in range(len(PROMPT), count):
        before = text[:position]
        chances = oracle.distribution(logits[position - 1].tolist(), before, params)
        token = text[position]
        assert chances[token] > 0
        found.append(sum(chances[:token]) + rng.random() * chances[token])
    return found
