"""The check of the head that comes with nextn, and of what faults make of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nextn
from nextn.files import open_checkpoint
from nextn.files.sources import ModelSource
from nextn.models.nextn_head import load_head_plan
from nextn.tools.check import Severity, TextSettings, Verdict
from nextn.tools.check.check import CheckSettings, check_head
from nextn.tools.check.experiments import HeadAlone, judge, run_experiments
from nextn.tools.check.texts import TextResults, write_texts
from tests.tools.check.planting import Tensors, replant

HEAD = Path(nextn.__file__).parent / "heads" / "smollm2.gguf"

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def texts(smollm2_path: Path) -> Iterator[TextResults]:
    """What the trunk writes, once for all tests."""
    with nextn.load(smollm2_path, threads=1, context=1024, max_sequences=1) as model:
        yield write_texts(model, TextSettings(("code",), tokens=48))


def head_alone(trunk: Path, head: Path, texts: TextResults) -> HeadAlone:
    return HeadAlone(load_head_plan(open_checkpoint(trunk), open_checkpoint(head)), texts.texts)


def test_the_shipped_head_is_well(smollm2_path: Path, texts: TextResults) -> None:
    assert texts.different is None
    experiments = run_experiments(head_alone(smollm2_path, HEAD, texts), rare=False)
    assert experiments.share == pytest.approx(texts.total.acceptance_at[0], abs=0.07)
    assert experiments.share > 0.5
    assert all(part.share < experiments.share for part in experiments.parts)
    assert not list(judge(experiments))


def test_the_shipped_head_passes_the_quick_check(smollm2_path: Path) -> None:
    report = check_head(ModelSource(smollm2_path, "smollm2"), CheckSettings(quick=True))
    assert report.verdict is Verdict.HEALTHY
    assert {one.severity for one in report.findings} == {Severity.NOTE}


def test_the_wrong_hidden_state_is_named(
    smollm2_path: Path, texts: TextResults, tmp_path: Path
) -> None:
    wrong = replant(HEAD, tmp_path / "pre.gguf", metadata={"nextn.head.hidden": "pre"})
    alone = head_alone(smollm2_path, wrong, texts)
    # A trunk that is told so keeps the other state, which the head was not made for.
    norm = open_checkpoint(smollm2_path).tensors["output_norm.weight"].decode()
    for text in alone.texts:
        text.hidden[:] = text.hidden / np.where(norm == 0, 1, norm)
    try:
        found = list(judge(run_experiments(alone, rare=False)))
    finally:
        for text in alone.texts:
            rms = np.sqrt(np.mean(np.square(text.hidden), axis=-1, keepdims=True))
            text.hidden[:] = text.hidden / np.maximum(rms, 1e-12) * norm
    assert [(one.severity, one.code) for one in found] == [(Severity.FAULT, "hidden-kind")]
    assert "should be post" in found[0].text


def test_exchanged_halves_are_named(smollm2_path: Path, texts: TextResults, tmp_path: Path) -> None:
    def plant(tensors: Tensors) -> None:
        name = "blk.30.nextn.eh_proj.weight"
        tensors[name] = np.roll(tensors[name], 576, axis=1)

    wrong = replant(HEAD, tmp_path / "ill.gguf", plant)
    experiments = run_experiments(head_alone(smollm2_path, wrong, texts), rare=False)
    assert experiments.share < 0.1
    assert [one.code for one in judge(experiments)] == ["halves-exchanged"]
