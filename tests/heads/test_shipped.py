"""The heads that come with nextn: each fits its model, and foresees what the model writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nextn
from nextn.bench.mtp.forced import forced_acceptance
from nextn.files import open_checkpoint
from nextn.files.sources.registry import MODELS
from nextn.prompts import load as load_prompts

FOLDER = Path(nextn.__file__).parent / "heads"
MOST_BYTES = 10 << 20


@pytest.fixture(scope="module")
def model(smollm2_path: Path) -> Iterator[nextn.Model]:
    with nextn.load(smollm2_path, threads=1, context=1024) as loaded:
        yield loaded


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.gguf")), ids=lambda path: path.stem)
def test_a_shipped_head_is_small_finite_and_of_a_known_model(path: Path) -> None:
    assert path.stem in MODELS
    assert path.stat().st_size <= MOST_BYTES
    assert path.with_suffix(".md").is_file()
    with open_checkpoint(path) as file:
        assert file.string("nextn.head.trunk")
        assert len(file.string("nextn.head.vocab_hash")) == 64
        for tensor in file.tensors.values():
            tensor.check_finite()


@pytest.mark.models
def test_the_default_model_comes_with_a_head(model: nextn.Model) -> None:
    assert model.head is not None
    assert model.head.origin == "shipped"
    assert not model.rejected_heads


@pytest.mark.models
def test_the_head_of_the_default_model_foresees_its_text(model: nextn.Model) -> None:
    prompt = load_prompts("evaluation", ["creative"])[0]
    with model.stream_chat(
        prompt.messages, max_tokens=96, temperature=0.0, draft="off", ignore_end=True
    ) as stream:
        tokens = stream.collect().tokens
    drafted = model.chat(prompt.messages, max_tokens=96, temperature=0.0, ignore_end=True)
    assert drafted.tokens == tokens
    assert drafted.statistics.tokens_per_step > 1.0
    model.engine.cache.reset()
    counts = forced_acceptance(model.executor, stream.prompt, tokens, 2)
    # Chance alone would be right once in ten thousand times.
    assert counts.acceptance_at[0] > 0.35
