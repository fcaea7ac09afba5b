"""Faults that only running the head shows, on a tiny trunk whose head is a copy of it.

Such a head foresees nearly everything, so that each fault has something to break.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nextn
from nextn.bench.mtp.forced import forced_acceptance
from nextn.files import open_checkpoint
from nextn.files.sources import ModelSource
from nextn.models.nextn_head import load_head_plan
from nextn.tools.check import CheckReport, CheckSettings, TextSettings, Verdict, check_head
from nextn.tools.check.experiments import HeadAlone
from nextn.tools.check.texts import WrittenText, write_texts
from tests.backends.heads import executor_of
from tests.support.tiny_gguf import TinyHead, write_tiny_model
from tests.tools.check.planting import Plant, Tensors, replant

BLOCK = "blk.1"
PROJECT = f"{BLOCK}.nextn.eh_proj.weight"
# Not tied, or it would repeat one token for ever.
TRUNK: dict[str, Any] = {"layers": 1, "context_length": 1024, "tied": False}
TEXTS = TextSettings(("qa", "chat"), prompts=2, tokens=32)
SETTINGS = CheckSettings(texts=TEXTS, threads=1)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measured") / "copied.gguf"
    write_tiny_model(path, "llama", head=TinyHead(noise=0.05), **TRUNK)
    return path


def check(path: Path) -> CheckReport:
    return check_head(ModelSource(path, path.stem), SETTINGS)


def exchange(first: str, second: str) -> Plant:
    def plant(tensors: Tensors) -> None:
        tensors[first], tensors[second] = tensors[second], tensors[first]

    return plant


def change(name: str, how: Callable[[np.ndarray], np.ndarray]) -> Plant:
    def plant(tensors: Tensors) -> None:
        tensors[name] = np.ascontiguousarray(how(tensors[name]))

    return plant


def shift_all(tensors: Tensors) -> None:
    for name in tensors:
        if name.startswith(BLOCK) and name.endswith("norm.weight"):
            tensors[name] = tensors[name] + np.float32(1)


def another_head(tensors: Tensors) -> None:
    rng = np.random.default_rng(8)
    for name, values in tensors.items():
        if name.startswith(BLOCK) and values.ndim == 2:
            tensors[name] = rng.permutation(values.reshape(-1)).reshape(values.shape)


def shuffled(values: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).permutation(values)


FAULTS: dict[str, tuple[Plant, str, Verdict]] = {
    "halves of the projection exchanged": (
        change(PROJECT, lambda w: np.concatenate((w[:, 64:], w[:, :64]), axis=1)),
        "halves-exchanged",
        Verdict.BROKEN,
    ),
    "negated projection": (change(PROJECT, np.negative), "negated", Verdict.BROKEN),
    "projection times 2^6": (change(PROJECT, lambda w: w * 64), "scale", Verdict.BROKEN),
    "gate and up exchanged": (
        exchange(f"{BLOCK}.ffn_gate.weight", f"{BLOCK}.ffn_up.weight"),
        "exchanged",
        Verdict.BROKEN,
    ),
    "square matrix transposed": (
        change(f"{BLOCK}.attn_output.weight", np.transpose),
        "transposed",
        Verdict.BROKEN,
    ),
    "wrong sign": (change(f"{BLOCK}.ffn_down.weight", np.negative), "harmful-part", Verdict.BROKEN),
    "one added to all norms": (shift_all, "norm-shift", Verdict.BROKEN),
    "another head": (another_head, "", Verdict.DEAD),
    "shuffled rows": (change(PROJECT, shuffled), "", Verdict.DEAD),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_runs_is_caught(name: str, copied: Path, tmp_path: Path) -> None:
    plant, code, verdict = FAULTS[name]
    report = check(replant(copied, tmp_path / "ill.gguf", plant))
    assert report.measured is not None
    if code:
        assert code in {one.code for one in report.findings}, report.findings
    assert report.verdict is verdict, report.reason


def test_the_head_without_a_fault_is_healthy(copied: Path, tmp_path: Path) -> None:
    for path in (copied, replant(copied, tmp_path / "copy.gguf")):
        report = check(path)
        assert report.verdict is Verdict.HEALTHY, report.findings
        assert report.measured is not None
        assert report.measured.same_text
        assert report.measured.first > 0.8
        assert [one.category for one in report.measured.acceptance] == ["qa", "chat", "all"]
        assert report.measured.costs.weight_bytes > 0
        assert report.measured.costs.cache_bytes > 0


@pytest.fixture(scope="module")
def written(copied: Path) -> Iterator[list[WrittenText]]:
    with nextn.load(copied, threads=1) as model:
        yield write_texts(model, TEXTS).texts


@pytest.mark.parametrize("draft_vocab", [None, range(0, 320, 3)])
def test_the_head_alone_guesses_what_it_drafts(
    draft_vocab: range | None, copied: Path, written: list[WrittenText], tmp_path: Path
) -> None:
    path = tmp_path / "headed.gguf"
    head = TinyHead(noise=0.05, draft_vocab=draft_vocab)
    write_tiny_model(path, "llama", head=head, **TRUNK)
    file = open_checkpoint(path)
    model = load_head_plan(file, file)
    alone = HeadAlone(model, written).right()
    assert len(alone) == sum(len(text.tokens) for text in written)
    with executor_of(model, "reference") as executor:
        executor.context_length = 4096  # all blocks of it, for one text
        tried, right = 0, 0
        for text in written:
            counts = forced_acceptance(executor, text.prompt, text.tokens, 1)
            tried += counts.judged_at[0]
            right += counts.accepted_at[0]
    assert tried == len(alone)
    # The hidden states of one are rounded from the products of another executor.
    assert abs(int(alone.sum()) - right) <= 2
