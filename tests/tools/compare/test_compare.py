from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import NextnError, RequestError, SourceError, UnsupportedModelError
from nextn.files import open_checkpoint
from nextn.files.sources import ModelSource
from nextn.text.tokenizer import load_tokenizer
from nextn.tools.compare import CompareSettings, Comparison, compare_models
from tests.support.tiny_gguf import write_tiny_model
from tests.tools.compare import naive

CONTEXT = 24
TEXT = "The quick brown fox jumps over the lazy dog, and then sleeps until noon.\n"
SHAPE: dict[str, Any] = {"layers": 1, "tied": False}


def source(path: Path) -> ModelSource:
    return ModelSource(path, path.stem)


@pytest.fixture(params=[320, 321])
def models(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A model, and the same with coarser weights; an odd vocabulary needs a number more."""
    base, other = tmp_path / "base.gguf", tmp_path / "other.gguf"
    write_tiny_model(base, "llama", vocab=request.param, **SHAPE)
    write_tiny_model(other, "llama", vocab=request.param, types="Q4_0", **SHAPE)
    return base, other


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def settings(text: Path | None, **further: Any) -> CompareSettings:
    return CompareSettings(text=text, context=CONTEXT, backend="reference", **further)


def chunks_of(path: Path, text: str) -> list[list[int]]:
    ids = load_tokenizer(open_checkpoint(path).tokenizer).encode(text.removesuffix("\n"))
    return [ids[n : n + CONTEXT] for n in range(0, len(ids) - CONTEXT + 1, CONTEXT)]


def check_against_loops(found: Comparison, base: Path, other: Path) -> None:
    """Everything, computed token by token."""
    losses, base_losses, exact_losses, divergences, exact, same = [], [], [], [], [], []
    for chunk in chunks_of(base, TEXT):
        ours, theirs = (naive.reference_logits(path, chunk) for path in (base, other))
        for position in range(CONTEXT // 2, CONTEXT - 1):
            true = chunk[position + 1]
            base_log = naive.rounded(ours[position])
            log = naive.log_probabilities(theirs[position])
            full = naive.log_probabilities(ours[position])
            losses.append(-log[true])
            base_losses.append(-base_log[true])
            exact_losses.append(-full[true])
            divergences.append(
                sum(math.exp(a) * (a - b) for a, b in zip(base_log, log, strict=True) if a > -16)
            )
            exact.append(sum(math.exp(a) * (a - b) for a, b in zip(full, log, strict=True)))
            same.append(float(base_log.index(max(base_log)) == log.index(max(log))))
    divergence = found.divergence
    assert divergence is not None
    assert found.perplexity is not None
    assert found.positions == len(losses)
    mean, error = naive.mean_and_error(losses)
    assert found.perplexity.value == pytest.approx(math.exp(mean), rel=1e-5)
    assert found.perplexity.error == pytest.approx(math.exp(mean) * error, rel=1e-4)
    mean = naive.mean_and_error(exact_losses)[0]
    assert found.base_perplexity.value == pytest.approx(math.exp(mean), rel=1e-5)
    assert divergence.kl.mean.value == pytest.approx(naive.mean_and_error(divergences)[0], rel=1e-3)
    assert divergence.kl.mean.error == pytest.approx(naive.mean_and_error(divergences)[1], rel=1e-3)
    assert divergence.kl_exact is not None
    assert divergence.kl_exact.value == pytest.approx(naive.mean_and_error(exact)[0], rel=1e-3)
    for percent, value in divergence.kl.percentiles.items():
        expected = naive.percentile(divergences, percent / 100)
        assert value == pytest.approx(expected, rel=1e-2, abs=1e-6), percent
    changes = [math.exp(-a) - math.exp(-b) for a, b in zip(losses, base_losses, strict=True)]
    assert divergence.probability.mean.value == pytest.approx(
        naive.mean_and_error(changes)[0], abs=1e-6
    )
    rms = math.sqrt(sum(x * x for x in changes) / len(changes))
    assert divergence.probability_rms.value == pytest.approx(rms, rel=1e-3)
    _, error = naive.mean_and_error([x * x for x in changes])
    assert divergence.probability_rms.error == pytest.approx(0.5 / rms * error, rel=1e-2)
    share, _ = naive.mean_and_error(same)
    assert divergence.same_top.value == pytest.approx(share)
    assert divergence.same_top.error == pytest.approx(
        math.sqrt(share * (1 - share) / (len(same) - 1))
    )
    # The variance of the differences is what the covariance is there for.
    differences = [a - b for a, b in zip(losses, base_losses, strict=True)]
    mean, error = naive.mean_and_error(differences)
    assert divergence.log_ratio.value == pytest.approx(mean, rel=1e-3, abs=1e-6)
    assert divergence.log_ratio.error == pytest.approx(error, rel=1e-3)
    assert divergence.ratio.value == pytest.approx(math.exp(mean), rel=1e-5)
    assert divergence.correlation == pytest.approx(np.corrcoef(losses, base_losses)[0, 1], rel=1e-5)


def test_the_figures_are_those_of_loops(models: tuple[Path, Path], text: Path) -> None:
    base, other = models
    found = compare_models(source(base), source(other), settings(text))
    assert (found.chunks, found.context) == (len(chunks_of(base, TEXT)), CONTEXT)
    check_against_loops(found, base, other)


def test_stored_logits_give_the_same_figures(
    models: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    base, other = models
    stored = tmp_path / "base.kld"
    alone = compare_models(source(base), None, settings(text, save_logits=stored))
    both = compare_models(source(base), source(other), settings(text))
    assert (alone.perplexity, alone.divergence) == (None, None)
    assert alone.base_perplexity == both.base_perplexity
    found = compare_models(None, source(other), settings(None, logits=stored))
    assert found.divergence is not None
    assert both.divergence is not None
    assert found.divergence.kl_exact is None
    assert found.divergence.kl == both.divergence.kl
    assert found.divergence.log_ratio == both.divergence.log_ratio
    assert found.divergence.same_top == both.divergence.same_top
    assert found.perplexity == both.perplexity
    fewer = compare_models(None, source(other), settings(None, logits=stored, chunks=1))
    assert (fewer.chunks, fewer.positions) == (1, CONTEXT - 1 - CONTEXT // 2)


def test_the_stored_file_is_as_another_program_writes_it(
    models: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    base, _ = models
    compare_models(source(base), None, settings(text, save_logits=tmp_path / "ours.kld"))
    chunks = chunks_of(base, TEXT)
    logits = [naive.reference_logits(base, chunk) for chunk in chunks]
    naive.write_logits_file(tmp_path / "theirs.kld", CONTEXT, chunks, logits)
    ours, theirs = ((tmp_path / f"{name}.kld").read_bytes() for name in ("ours", "theirs"))
    assert len(ours) == len(theirs)
    header = 20 + 4 * CONTEXT * len(chunks)
    assert ours[:header] == theirs[:header]
    vocabulary = logits[0].shape[1]
    width = 2 * ((vocabulary + 1) // 2) + 4
    one, two = (np.frombuffer(data[header:], "<u2").reshape(-1, width) for data in (ours, theirs))
    floats = [rows[:, :4].copy().view("<f4") for rows in (one, two)]
    assert np.allclose(*floats, rtol=1e-5)
    assert np.abs(one[:, 4:].astype(int) - two[:, 4:].astype(int)).max() <= 1
    # Of a model with itself, rounding is all that is left.
    found = compare_models(None, source(base), settings(None, logits=tmp_path / "theirs.kld"))
    assert found.divergence is not None
    assert abs(found.divergence.kl.mean.value) < 1e-4
    assert found.divergence.same_top.value > 0.9


def test_the_begin_token_replaces_the_first_of_each_chunk(text: Path, tmp_path: Path) -> None:
    plain, begun = tmp_path / "plain.gguf", tmp_path / "begun.gguf"
    keys = {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.bos_token_id": 5}
    write_tiny_model(plain, "llama", metadata=keys, **SHAPE)
    write_tiny_model(
        begun, "llama", metadata={**keys, "tokenizer.ggml.add_bos_token": True}, **SHAPE
    )
    ids = load_tokenizer(open_checkpoint(begun).tokenizer).encode(TEXT.removesuffix("\n"))
    assert ids[0] == 5
    chunks = [ids[n : n + CONTEXT] for n in range(0, len(ids) - CONTEXT + 1, CONTEXT)]
    losses = []
    for chunk in chunks:
        logits = naive.reference_logits(plain, [5, *chunk[1:]])
        losses += [
            -naive.log_probabilities(logits[n])[chunk[n + 1]]
            for n in range(CONTEXT // 2, CONTEXT - 1)
        ]
    found = compare_models(source(begun), None, settings(text))
    mean = naive.mean_and_error(losses)[0]
    assert found.base_perplexity.value == pytest.approx(math.exp(mean), rel=1e-5)


def test_a_model_is_equal_to_itself(models: tuple[Path, Path], text: Path) -> None:
    base, _ = models
    found = compare_models(source(base), source(base), settings(text))
    assert found.divergence is not None
    assert found.divergence.kl_exact is not None
    assert found.divergence.kl_exact.value == 0
    assert abs(found.divergence.kl.mean.value) < 1e-5
    assert found.divergence.ratio.value == pytest.approx(1, abs=1e-4)
    assert found.perplexity == found.base_perplexity


def test_the_native_executor_gives_the_same_figures(models: tuple[Path, Path], text: Path) -> None:
    base, other = models
    slow = compare_models(source(base), source(other), settings(text))
    fast = compare_models(
        source(base), source(other), CompareSettings(text=text, context=CONTEXT, threads=1)
    )
    assert slow.divergence is not None
    assert fast.divergence is not None
    assert fast.base_perplexity.value == pytest.approx(slow.base_perplexity.value, rel=2e-3)
    assert fast.divergence.kl.mean.value == pytest.approx(slow.divergence.kl.mean.value, rel=0.05)


def test_other_vocabularies_are_refused_with_the_reason(tmp_path: Path, text: Path) -> None:
    one, two, three = (tmp_path / f"{n}.gguf" for n in range(3))
    write_tiny_model(one, "llama", **SHAPE)
    write_tiny_model(two, "llama", vocab=300, **SHAPE)
    tokens = open_checkpoint(one).strings("tokenizer.ggml.tokens")
    changed = [*tokens[:-1], "another"]
    write_tiny_model(three, "llama", metadata={"tokenizer.ggml.tokens": changed}, **SHAPE)
    with pytest.raises(UnsupportedModelError, match="300 tokens instead of 320"):
        compare_models(source(one), source(two), settings(text))
    with pytest.raises(UnsupportedModelError, match="the first is 319: 'another'"):
        compare_models(source(one), source(three), settings(text))
    stored = tmp_path / "base.kld"
    compare_models(source(one), None, settings(text, save_logits=stored))
    with pytest.raises(UnsupportedModelError, match="has 300 tokens, but the logits"):
        compare_models(None, source(two), settings(None, logits=stored))


def test_a_fine_tune_may_have_another_name_and_template(tmp_path: Path, text: Path) -> None:
    one, two = tmp_path / "trunk.gguf", tmp_path / "tuned.gguf"
    write_tiny_model(one, "llama", **SHAPE)
    write_tiny_model(
        two, "llama", seed=1, chat_template=None, metadata={"general.name": "Tuned"}, **SHAPE
    )
    found = compare_models(source(one), source(two), settings(text))
    assert found.divergence is not None
    assert found.divergence.kl.mean.value > 0.01


@pytest.mark.parametrize(
    ("further", "kind", "said"),
    [
        ({"context": 60}, RequestError, "two chunks of 60 are needed"),
        ({"context": 2}, RequestError, "at least 4"),
        ({"chunks": 0}, RequestError, "at least 1"),
        ({"text": Path("/nowhere/text")}, SourceError, "cannot be read"),
        ({"save_logits": Path("/nowhere/base.kld")}, SourceError, "there is no folder"),
        ({"logits": Path("/nowhere/base.kld")}, RequestError, "either a base to run"),
    ],
)
def test_what_is_not_possible_is_refused(
    models: tuple[Path, Path],
    text: Path,
    further: dict[str, Any],
    kind: type[NextnError],
    said: str,
) -> None:
    base, other = models
    options = {"text": text, "context": CONTEXT, "backend": "reference", **further}
    with pytest.raises(kind, match=said):
        compare_models(source(base), source(other), CompareSettings(**options))


def test_a_file_that_is_read_is_not_written_over(models: tuple[Path, Path], text: Path) -> None:
    base, other = models
    before = base.read_bytes()
    with pytest.raises(RequestError, match="would be overwritten"):
        compare_models(source(base), source(other), settings(text, save_logits=base))
    assert base.read_bytes() == before


def test_nothing_is_left_when_it_is_broken_off(
    models: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    base, _ = models
    folder = tmp_path / "out"
    folder.mkdir()

    def interrupt(done: int, total: int) -> None:
        del done, total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_models(
            source(base), None, settings(text, save_logits=folder / "base.kld"), interrupt
        )
    assert not list(folder.iterdir())


def test_the_default_text_is_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", **SHAPE)
    found = compare_models(source(path), None, CompareSettings(chunks=2, threads=1))
    assert (found.chunks, found.positions) == (2, 2 * 255)
