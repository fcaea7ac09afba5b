"""The formats of the mixes against those that llama.cpp's quantiser chooses."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import pytest

from nextn.files import open_checkpoint
from nextn.tools.quantise import FILE_TYPES, Settings, quantise_file
from nextn.tools.quantise.mixes import ModelShape, is_quantised, mixed_types
from tests.support.tiny_gguf import write_tiny_model

# Shapes that reach the rules: blocks that are no multiple of eight, few key heads, rows that are
# not whole blocks of 256.
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"hidden": 256, "heads": 4, "head_dim": 64, "kv_heads": 1, "ffn": 512, "layers": 17},
    "qwen3": {"hidden": 256, "heads": 4, "head_dim": 64, "kv_heads": 2, "ffn": 544, "layers": 8},
    "gemma3": {"hidden": 96, "heads": 4, "head_dim": 64, "kv_heads": 1, "ffn": 256, "layers": 9},
}
# llama.cpp has no mix of NVFP4, and makes MXFP4 of experts alone.
SHARED = [name for name in FILE_TYPES if name not in ("NVFP4", "MXFP4", "F32")]


def llama_quantize(source: Path, target: Path, file_type: int) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    silence = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silence, ctypes.c_void_p(0))
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = file_type, 1
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    llama_cpp.llama_log_set(llama_cpp.llama_log_callback(0), ctypes.c_void_p(0))
    assert status == 0


@pytest.mark.parametrize("family", MODELS)
def test_every_tensor_gets_the_format_that_llama_cpp_gives_it(tmp_path: Path, family: str) -> None:
    model, theirs = tmp_path / "model.gguf", tmp_path / "theirs.gguf"
    write_tiny_model(model, family, types="F16", **MODELS[family])
    for name in SHARED:
        llama_quantize(model, theirs, FILE_TYPES[name].id)
        plans = quantise_file(model, None, Settings(name)).plans
        with open_checkpoint(theirs) as checkpoint:
            assert checkpoint.metadata["general.file_type"] == FILE_TYPES[name].id
            expected = {key: tensor.block_type.name for key, tensor in checkpoint.tensors.items()}
        assert {plan.name: plan.target.name for plan in plans} == expected, name


def types_of(file_type: str, model: ModelShape, *names: str, imatrix: bool = False) -> list[str]:
    found = mixed_types(names, model, FILE_TYPES[file_type], with_importance=imatrix)
    return [found[name] for name in names]


def test_matrices_of_eight_experts_get_finer_attention() -> None:
    names = ("output.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight")
    eight = ModelShape(blocks=32, experts=8)
    assert types_of("Q4_K_M", eight, *names) == ["Q6_K", "Q8_0", "Q8_0"]
    assert types_of("Q4_K_M", eight, "blk.9.attn_output.weight") == ["Q5_K"]
    assert types_of("Q4_K_M", ModelShape(32, experts=64), names[1]) == ["Q4_K"]


def test_experts_are_counted_by_block_and_dense_matrices_one_by_one() -> None:
    names = [f"blk.{n}.ffn_down_exps.weight" for n in (1, 2, 8, 31)]
    found = types_of("Q4_K_M", ModelShape(32, experts=64), *names)
    assert found == ["Q6_K", "Q6_K", "Q4_K", "Q6_K"]


def test_some_rules_ask_for_an_importance_matrix() -> None:
    first = "blk.0.ffn_down.weight"
    dense = ModelShape(blocks=16)
    assert types_of("Q4_0", dense, first) == ["Q4_0"]
    assert types_of("Q4_0", dense, first, imatrix=True) == ["Q4_1"]
    assert types_of("IQ4_NL", dense, first) == ["Q5_K"]
    assert types_of("IQ4_NL", dense, first, imatrix=True) == ["IQ4_NL"]


def test_4_bit_floats_are_for_experts_or_else_for_blocks() -> None:
    names = ("token_embd.weight", "output.weight", "blk.0.attn_q.weight")
    experts = "blk.0.ffn_up_exps.weight"
    found = types_of("MXFP4", ModelShape(4, experts=32), *names, experts)
    assert found == ["Q8_0", "Q8_0", "Q8_0", "MXFP4"]
    for name in ("MXFP4", "NVFP4"):
        assert types_of(name, ModelShape(4), *names) == ["Q8_0", "Q8_0", name]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("blk.0.attn_q.weight", True),
        ("blk.0.attn_q.bias", False),
        ("blk.0.attn_q_norm.weight", False),
        ("blk.0.ffn_gate_inp.weight", False),
        ("blk.0.ssm_conv1d.weight", False),
        ("blk.0.time_mix_key.weight", True),
        ("blk.0.time_mix_w1.weight", False),
        ("blk.3.nextn.eh_proj.weight", True),
    ],
)
def test_small_delicate_matrices_stay_as_they_are(name: str, changes: bool) -> None:
    assert is_quantised(name, (64, 64)) == changes
    assert not is_quantised(name, (64,))
