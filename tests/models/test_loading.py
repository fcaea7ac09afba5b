from __future__ import annotations

from pathlib import Path

import pytest

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files import open_checkpoint
from nextn.models import known_architectures, load_model_plan
from tests.support.tiny_gguf import write_tiny_model


def test_families_are_found_by_their_file_names() -> None:
    assert {"llama", "gemma3", "qwen3", "qwen2"} <= known_architectures().keys()


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "qwen2"])
def test_the_plan_uses_every_tensor_of_the_file(family: str, tmp_path: Path) -> None:
    tensors = write_tiny_model(tmp_path / "tiny.gguf", family)
    plan = load_model_plan(open_checkpoint(tmp_path / "tiny.gguf"))
    assert {weight.name for weight in plan.weights} == tensors.keys()


def test_an_unknown_architecture_names_the_known_ones(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    checkpoint.architecture = "nonesuch"
    with pytest.raises(UnsupportedModelError, match=r"nonesuch.*gemma3.*llama"):
        load_model_plan(checkpoint)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    checkpoint.tensors = {k: v for k, v in checkpoint.tensors.items() if k != "blk.1.ffn_up.weight"}
    with pytest.raises(FileFormatError, match=r"blk\.1\.ffn_up\.weight: missing"):
        load_model_plan(checkpoint)


def test_a_tensor_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    checkpoint.metadata["llama.feed_forward_length"] = 112  # type: ignore[index]
    with pytest.raises(FileFormatError, match=r"ffn_gate.*\[128, 64\].*\[112, 64\]"):
        load_model_plan(checkpoint)


def test_a_tensor_that_the_family_does_not_know_is_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    extra = checkpoint.tensors["blk.0.attn_norm.weight"]
    checkpoint.tensors = {**checkpoint.tensors, "blk.0.attn_q_norm.weight": extra}
    with pytest.raises(UnsupportedModelError, match="attn_q_norm"):
        load_model_plan(checkpoint)


def test_the_tensors_of_a_prediction_head_are_not_a_reason_to_refuse(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "qwen3")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    extra = checkpoint.tensors["blk.0.attn_norm.weight"]
    head = {"blk.2.nextn.enorm.weight": extra, "blk.2.attn_norm.weight": extra}
    checkpoint.tensors = {**checkpoint.tensors, **head}
    checkpoint.metadata["qwen3.nextn_predict_layers"] = 1  # type: ignore[index]
    checkpoint.metadata["qwen3.block_count"] = 3  # type: ignore[index]
    load_model_plan(checkpoint)


def test_query_heads_that_do_not_divide_into_groups_are_refused(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    checkpoint.metadata["llama.attention.head_count"] = 3  # type: ignore[index]
    with pytest.raises(FileFormatError, match=r"head_count: 3 heads do not divide into 2 groups"):
        load_model_plan(checkpoint)


def test_a_frequency_base_that_yarn_cannot_use_is_refused(tmp_path: Path) -> None:
    yarn = {
        "qwen3.rope.freq_base": 1.0,
        "qwen3.rope.scaling.type": "yarn",
        "qwen3.rope.scaling.factor": 4.0,
        "qwen3.rope.scaling.original_context_length": 64,
    }
    write_tiny_model(tmp_path / "tiny.gguf", "qwen3")
    checkpoint = open_checkpoint(tmp_path / "tiny.gguf")
    checkpoint.metadata.update(yarn)  # type: ignore[attr-defined]
    with pytest.raises(FileFormatError, match=r"rope\.freq_base: is 1; yarn needs more than 1"):
        load_model_plan(checkpoint)
