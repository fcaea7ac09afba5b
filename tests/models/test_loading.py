from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files import BLOCK_TYPES, Checkpoint, open_checkpoint
from nextn.models import known_architectures, load_model_plan
from nextn.plan import Weight
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


def with_tensor(path: Path, name: str, values: np.ndarray) -> Checkpoint:
    """A tiny model with one more tensor."""
    write_tiny_model(path, "llama", scales={"attn_q": 2.0})
    checkpoint = open_checkpoint(path)
    extra = checkpoint.tensors["blk.0.attn_q.scale"]
    extra.name, extra.shape, extra.nbytes = name, values.shape, values.nbytes
    extra.__dict__["_mapping"], extra.__dict__["offset"] = values.tobytes(), 0
    tensors = {k: v for k, v in checkpoint.tensors.items() if not k.endswith(".scale")}
    checkpoint.tensors = {**tensors, name: extra}
    return checkpoint


ONE = np.ones(1, np.float32)


def test_scales_of_matrices_are_found(tmp_path: Path) -> None:
    scales = {"token_embd": 0.5, "attn_q": 2.0, "ffn_down": 3.0}
    tensors = write_tiny_model(tmp_path / "tiny.gguf", "llama", scales=scales)
    plan = load_model_plan(open_checkpoint(tmp_path / "tiny.gguf"))
    assert {weight.name for weight in plan.weights} == tensors.keys()
    for weight in plan.weights:
        stem = weight.name.removesuffix(".weight")
        has_scale = f"{stem}.scale" in tensors
        assert weight.scale == (Weight(f"{stem}.scale", 1, 1) if has_scale else None)


def test_the_scale_of_activations_is_left_unused(tmp_path: Path) -> None:
    checkpoint = with_tensor(tmp_path / "tiny.gguf", "blk.0.attn_q.input_scale", ONE)
    plan = load_model_plan(checkpoint)
    assert all(weight.scale is None for weight in plan.weights)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_scale_that_is_not_finite_is_refused(value: float, tmp_path: Path) -> None:
    checkpoint = with_tensor(tmp_path / "tiny.gguf", "blk.0.attn_q.scale", ONE * np.float32(value))
    with pytest.raises(FileFormatError, match=r"blk\.0\.attn_q\.scale: block 0 holds NaN or inf"):
        load_model_plan(checkpoint)


@pytest.mark.parametrize("shape", [(2,), (1, 1), (64,)])
def test_a_scale_of_another_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.ones(shape, np.float32)
    checkpoint = with_tensor(tmp_path / "tiny.gguf", "blk.0.attn_q.scale", values)
    with pytest.raises(FileFormatError, match=r"attn_q\.scale: has the shape .* a scale has \[1\]"):
        load_model_plan(checkpoint)


def test_a_scale_in_another_format_is_refused(tmp_path: Path) -> None:
    checkpoint = with_tensor(tmp_path / "tiny.gguf", "blk.0.attn_q.scale", ONE)
    checkpoint.tensors["blk.0.attn_q.scale"].block_type = BLOCK_TYPES[1]
    with pytest.raises(FileFormatError, match=r"attn_q\.scale: has the block format F16"):
        load_model_plan(checkpoint)


@pytest.mark.parametrize("name", ["blk.0.attn_x.scale", "output.scale", "output.input_scale"])
def test_a_scale_without_its_matrix_is_refused(name: str, tmp_path: Path) -> None:
    # The model is tied: it has no output matrix of its own.
    checkpoint = with_tensor(tmp_path / "tiny.gguf", name, ONE)
    with pytest.raises(FileFormatError, match=rf"{name}: is a scale of .*\.weight, which is miss"):
        load_model_plan(checkpoint)


def test_the_scale_of_a_tensor_that_is_no_matrix_is_refused(tmp_path: Path) -> None:
    checkpoint = with_tensor(tmp_path / "tiny.gguf", "blk.0.attn_norm.scale", ONE)
    with pytest.raises(UnsupportedModelError, match=r"attn_norm\.scale: not known"):
        load_model_plan(checkpoint)
