"""Faults that files alone show: each is planted into a small model that is well without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType

from nextn.errors import NextnError
from nextn.files import open_checkpoint
from nextn.files.sources import ModelSource
from nextn.tools.check import CheckReport, CheckSettings, Severity, Verdict, check_head
from nextn.tools.check.values import tensor_facts
from tests.support.random_blocks import random_blocks
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model
from tests.tools.check.planting import Plant, Tensors, replant

BLOCK = "blk.2"
NEXTN = f"{BLOCK}.nextn"
DRAFTED = list(range(0, 320, 2))
# As wide as rows of K-quants are.
WIDE: dict[str, Any] = {"hidden": 256, "heads": 4, "head_dim": 64, "ffn": 256, "vocab": 300}


def quick(path: Path, head: str | Path = "auto") -> CheckReport:
    settings = CheckSettings(head=str(head), quick=True)
    return check_head(ModelSource(path, path.stem), settings)


def codes(report: CheckReport, least: Severity = Severity.DOUBT) -> set[str]:
    order = list(Severity)
    return {one.code for one in report.findings if order.index(one.severity) <= order.index(least)}


def drop(*names: str) -> Plant:
    def plant(tensors: Tensors) -> None:
        for name in names:
            del tensors[name]

    return plant


def change(name: str, how: Callable[[np.ndarray], np.ndarray]) -> Plant:
    def plant(tensors: Tensors) -> None:
        tensors[name] = np.ascontiguousarray(how(tensors[name]))

    return plant


def put(name: str, index: Any, value: float) -> Plant:
    return lambda tensors: tensors[name].__setitem__(index, value)


def shift_norms(by: float) -> Plant:
    def plant(tensors: Tensors) -> None:
        for name in tensors:
            if name.startswith(BLOCK) and name.endswith("norm.weight"):
                tensors[name] += np.float32(by)

    return plant


def move_block(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith(f"{BLOCK}.")]:
        tensors[name.replace(BLOCK, "blk.4", 1)] = tensors.pop(name)


def drop_head(tensors: Tensors) -> None:
    for name in [name for name in tensors if name.startswith(f"{BLOCK}.")]:
        del tensors[name]


@dataclass(frozen=True)
class Fault:
    """What to plant, and the finding that must follow."""

    name: str
    code: str
    plant: Plant = lambda _: None
    verdict: Verdict = Verdict.BROKEN
    metadata: dict[str, Any] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)


INSIDE = [
    Fault("dropped nextn tensor", "missing-tensor", drop(f"{NEXTN}.hnorm.weight")),
    Fault("dropped projection", "missing-tensor", drop(f"{NEXTN}.eh_proj.weight")),
    Fault("dropped attention tensor", "missing-tensor", drop(f"{BLOCK}.attn_v.weight")),
    Fault("dropped feed-forward tensor", "missing-tensor", drop(f"{BLOCK}.ffn_down.weight")),
    Fault("dropped block norm", "missing-tensor", drop(f"{BLOCK}.attn_norm.weight")),
    Fault("declared but absent", "declared-but-absent", drop_head, Verdict.ABSENT),
    Fault("present but undeclared", "undeclared", metadata={"llama.nextn_predict_layers": None}),
    Fault("two blocks declared", "declaration", metadata={"llama.nextn_predict_layers": 2}),
    Fault("norms with one more", "norm-shift", shift_norms(1), Verdict.WEAK),
    Fault("norms with one less", "norm-shift", shift_norms(-1), Verdict.WEAK),
    Fault("transposed projection", "transposed", change(f"{NEXTN}.eh_proj.weight", np.transpose)),
    Fault("transposed matrix", "transposed", change(f"{BLOCK}.ffn_down.weight", np.transpose)),
    Fault("wrong width", "shape", change(f"{BLOCK}.attn_k.weight", lambda w: w[:16])),
    Fault("NaN", "not-finite", put(f"{BLOCK}.ffn_up.weight", (3, 5), np.nan)),
    Fault("infinity", "not-finite", put(f"{NEXTN}.enorm.weight", 7, np.inf)),
    Fault("constant matrix", "constant", change(f"{BLOCK}.attn_q.weight", lambda w: 0 * w + 0.5)),
    Fault("constant norm", "constant", change(f"{NEXTN}.hnorm.weight", lambda w: 0 * w + 0.5)),
    Fault("zeroed projection", "zero", change(f"{NEXTN}.eh_proj.weight", np.zeros_like)),
    Fault("zero norm", "zero", change(f"{NEXTN}.shared_head_norm.weight", np.zeros_like)),
    Fault("no hidden state", "half-zero", put(f"{NEXTN}.eh_proj.weight", np.s_[:, 64:], 0)),
    Fault(
        "rows of zeros",
        "zero-rows",
        put(f"{BLOCK}.ffn_up.weight", np.s_[:20], 0),
        Verdict.WEAK,
    ),
    Fault("draft token out of range", "draft-vocabulary", put(f"{NEXTN}.draft_vocab", -1, 320)),
    Fault("draft token twice", "draft-vocabulary", put(f"{NEXTN}.draft_vocab", 1, 0)),
    Fault("draft list unsorted", "draft-vocabulary", change(f"{NEXTN}.draft_vocab", np.flipud)),
    Fault(
        "truncated output", "shape", change(f"{NEXTN}.shared_head_head.weight", lambda w: w[:100])
    ),
    Fault("wrong block index", "block-index", move_block),
    Fault(
        "scale ignored", "scale", change(f"{BLOCK}.ffn_up.weight", lambda w: w * 16), Verdict.WEAK
    ),
    Fault(
        "scale applied twice",
        "scale",
        change(f"{BLOCK}.attn_q.weight", lambda w: w / 64),
        Verdict.WEAK,
    ),
    Fault(
        "integers for weights",
        "type",
        change(f"{NEXTN}.enorm.weight", lambda w: np.arange(64, dtype=np.int32)),
    ),
    Fault(
        "unknown tensor",
        "unknown-tensor",
        lambda tensors: tensors.update({f"{NEXTN}.other.weight": np.ones(3, np.float32)}),
        Verdict.WEAK,
    ),
]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("static") / "healthy.gguf"
    write_tiny_model(path, "llama", head=TinyHead(draft_vocab=DRAFTED, own_output=True))
    return path


def test_the_model_without_a_fault_is_healthy(healthy: Path, tmp_path: Path) -> None:
    for path in (healthy, replant(healthy, tmp_path / "copy.gguf")):
        report = quick(path)
        assert report.verdict is Verdict.HEALTHY, report.findings
        assert report.origin == "inside"
        assert "without running it" in report.reason


@pytest.mark.parametrize("fault", INSIDE, ids=lambda fault: fault.name)
def test_a_fault_inside_the_model_is_caught(fault: Fault, healthy: Path, tmp_path: Path) -> None:
    path = replant(
        healthy, tmp_path / "ill.gguf", fault.plant, metadata=fault.metadata, types=fault.types
    )
    report = quick(path)
    assert fault.code in codes(report), report.findings
    assert report.verdict is fault.verdict


BESIDE = [
    ("other architecture", "architecture", Verdict.BROKEN, {"general.architecture": "qwen3"}),
    ("other vocabulary", "vocabulary", Verdict.BROKEN, {"nextn.head.vocab_hash": "0" * 64}),
    ("other tokenizer", "tokenizer", Verdict.BROKEN, {"tokenizer.ggml.pre": "qwen2"}),
    ("other width", "other-model", Verdict.BROKEN, {"llama.embedding_length": 128}),
    ("other depth", "other-model", Verdict.BROKEN, {"llama.block_count": 7}),
    ("other heads", "other-model", Verdict.BROKEN, {"llama.attention.head_count_kv": 4}),
    ("other trunk", "trunk-name", Verdict.WEAK, {"nextn.head.trunk": "Another model"}),
    ("other rotation", "settings", Verdict.WEAK, {"llama.rope.freq_base": 5e5}),
]


@pytest.mark.parametrize(
    ("code", "verdict", "metadata"),
    [fault[1:] for fault in BESIDE],
    ids=[fault[0] for fault in BESIDE],
)
def test_a_head_of_another_model_is_caught(
    code: str, verdict: Verdict, metadata: dict[str, Any], tmp_path: Path
) -> None:
    trunk, head = tmp_path / "trunk.gguf", tmp_path / "head.gguf"
    write_tiny_model(trunk, "llama")
    write_tiny_head(head, "llama", TinyHead())
    assert quick(trunk, head).verdict is Verdict.HEALTHY
    report = quick(trunk, replant(head, tmp_path / "other.gguf", metadata=metadata))
    assert code in codes(report), report.findings
    assert report.verdict is verdict


# IQ3_S is a format that nextn only copies.
@pytest.mark.parametrize(
    ("kind", "weak"), [("Q2_K", True), ("Q3_K", True), ("Q5_K", False), ("IQ3_S", True)]
)
def test_a_crushed_head_is_in_doubt(kind: str, weak: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", **WIDE, types={"default": "F32"}, head=TinyHead())
    name = f"{NEXTN}.eh_proj.weight"
    if kind == "IQ3_S":
        data = np.zeros((256, 220), np.uint8)
    else:
        data = random_blocks(kind, 256, 512, seed=0)
    ill = replant(
        path,
        tmp_path / "crushed.gguf",
        drop(name),
        raw={name: (data, GGMLQuantizationType[kind])},
    )
    report = quick(ill)
    assert ("precision" in codes(report)) == weak
    assert "precision" in codes(report, Severity.NOTE)
    assert report.verdict is (Verdict.WEAK if weak else Verdict.HEALTHY)


def test_a_lost_scale_is_caught(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    roles = {"ffn_up": "NVFP4", "default": "F32"}
    write_tiny_model(path, "llama", types=roles, scales={"ffn_up": 0.5}, head=TinyHead())
    assert quick(path).verdict is Verdict.HEALTHY
    name = f"{BLOCK}.ffn_up"
    data = random_blocks("NVFP4", 128, 64, seed=0)
    # The `gguf` package cannot write the format from numbers.
    kept = {f"blk.{n}.ffn_up.weight": (data, GGMLQuantizationType.NVFP4) for n in range(3)}
    lost = replant(path, tmp_path / "lost.gguf", drop(*kept, f"{name}.scale"), raw=kept)
    report = quick(lost)
    assert "missing-scale" in codes(report)
    assert report.verdict is Verdict.BROKEN


def test_a_family_that_nextn_does_not_run_is_checked_all_the_same(
    healthy: Path, tmp_path: Path
) -> None:
    def renamed(path: Path, plant: Plant = lambda _: None) -> Path:
        keys = open_checkpoint(healthy).metadata
        metadata = {
            key.replace("llama.", "unheard.", 1): value
            for key, value in keys.items()
            if key.startswith("llama.")
        }
        return replant(
            healthy, path, plant, metadata={**metadata, "general.architecture": "unheard"}
        )

    path = renamed(tmp_path / "other.gguf")
    report = check_head(ModelSource(path, "other"))
    assert report.verdict is Verdict.HEALTHY
    assert "'unheard' is not supported" in (report.not_measured or "")
    assert report.measured is None
    ill = renamed(tmp_path / "ill.gguf", drop(f"{BLOCK}.ffn_down.weight"))
    assert check_head(ModelSource(ill, "ill")).verdict is Verdict.BROKEN


def test_joined_matrices_are_the_same_block(healthy: Path, tmp_path: Path) -> None:
    def join(tensors: Tensors) -> None:
        parts = [tensors.pop(f"{BLOCK}.attn_{one}.weight") for one in "qkv"]
        tensors[f"{BLOCK}.attn_qkv.weight"] = np.concatenate(parts)

    report = quick(replant(healthy, tmp_path / "joined.gguf", join))
    assert report.verdict is Verdict.HEALTHY, report.findings


def test_copies_of_the_trunks_matrices_are_noted(healthy: Path, tmp_path: Path) -> None:
    def copy(tensors: Tensors) -> None:
        tensors[f"{NEXTN}.embed_tokens.weight"] = tensors["token_embd.weight"].copy()

    before = quick(healthy).layout
    assert before is not None
    assert (before.own_embedding, before.own_output) == (False, True)
    report = quick(replant(healthy, tmp_path / "copy.gguf", copy))
    assert report.layout is not None
    assert report.layout.own_embedding
    assert "copy" in codes(report, Severity.NOTE)
    assert report.verdict is Verdict.HEALTHY


def test_a_model_without_a_head_has_none(tmp_path: Path) -> None:
    path = tmp_path / "plain.gguf"
    write_tiny_model(path, "llama")
    report = quick(path)
    assert (report.verdict, report.head) == (Verdict.ABSENT, None)
    given = quick(path, path)
    assert given.verdict is Verdict.ABSENT
    assert "holds no tensors of a head" in given.reason


def test_a_head_alone_is_not_a_model(tmp_path: Path) -> None:
    write_tiny_head(tmp_path / "head.gguf", "llama", TinyHead())
    with pytest.raises(NextnError, match="without its model"):
        quick(tmp_path / "head.gguf")


def test_a_damaged_file_beside_the_model_is_reported(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead())
    whole = (tmp_path / "mtp-tiny.gguf").read_bytes()
    assert quick(tmp_path / "tiny.gguf").origin == "beside"
    (tmp_path / "mtp-tiny.gguf").write_bytes(whole[:-100])
    report = quick(tmp_path / "tiny.gguf")
    assert report.verdict is Verdict.BROKEN
    assert "truncated" in report.reason


def test_the_statistics_are_those_of_numpy(healthy: Path) -> None:
    checkpoint = open_checkpoint(healthy)
    for name, tensor in checkpoint.tensors.items():
        if name.endswith("draft_vocab"):
            continue
        facts, values = tensor_facts(tensor), tensor.decode().astype(np.float64)
        assert facts.finite
        assert (facts.least, facts.most) == (values.min(), values.max())
        assert facts.mean == pytest.approx(values.mean(), abs=1e-7)
        assert facts.rms == pytest.approx(np.sqrt((values**2).mean()))
        assert facts.negative == pytest.approx((values < 0).mean())
        middle = values.shape[-1] // 2
        halves = values[..., :middle], values[..., middle:]
        expected = [np.sqrt((half**2).mean()) for half in halves]
        assert facts.halves == pytest.approx(expected)
