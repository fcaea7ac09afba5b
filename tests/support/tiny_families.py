"""Tiny random models with heads of families that nextn need not be able to run: qwen35, qwen35moe.

Shapes and keys are those of real files; llama.cpp loads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from tests.support.tiny_tokenizers import byte_level_bpe

TRUNK_BLOCKS = 4
HIDDEN = 64
EXPERTS = 4
VOCABULARY = 320


def write_tiny_qwen35(
    path: Path,
    *,
    experts: bool = False,
    head: bool = True,
    seed: int = 0,
    types: str = "F32",
    tensors_per_part: int = 0,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write a qwen35 or qwen35moe file of four blocks, every fourth with full attention.

    Args:
        path: the file; of a model in parts the name that numbers are added to.
        experts: whether feed-forward blocks, that of the head included, are experts.
        head: whether it has a head.
        seed: of the weights.
        types: block format of the matrices whose rows allow it.
        tensors_per_part: write a model in parts.
        metadata: keys to add, or to replace.
    """
    family = "qwen35moe" if experts else "qwen35"
    keys: dict[str, Any] = {
        "general.type": "model",
        "general.name": "Tiny Qwen",
        f"{family}.block_count": TRUNK_BLOCKS + head,
        f"{family}.context_length": 512,
        f"{family}.embedding_length": HIDDEN,
        f"{family}.feed_forward_length": 128,
        f"{family}.attention.head_count": 4,
        f"{family}.attention.head_count_kv": 2,
        f"{family}.attention.key_length": 32,
        f"{family}.attention.value_length": 32,
        f"{family}.attention.layer_norm_rms_epsilon": 1e-6,
        f"{family}.rope.dimension_count": 8,
        f"{family}.rope.dimension_sections": [2, 1, 1, 0],
        f"{family}.rope.freq_base": 1e7,
        f"{family}.full_attention_interval": 4,
        f"{family}.ssm.conv_kernel": 4,
        f"{family}.ssm.state_size": 32,
        f"{family}.ssm.group_count": 2,
        f"{family}.ssm.time_step_rank": 4,
        f"{family}.ssm.inner_size": 128,
    }
    if experts:
        keys[f"{family}.expert_count"] = EXPERTS
        keys[f"{family}.expert_used_count"] = 2
        keys[f"{family}.expert_feed_forward_length"] = 32
        keys[f"{family}.expert_shared_feed_forward_length"] = 32
    if head:
        keys[f"{family}.nextn_predict_layers"] = 1
    keys |= byte_level_bpe(VOCABULARY, pre="qwen2", chat_template=None)
    keys["general.quantization_version"] = 2
    writer = GGUFWriter(path, family, split_max_tensors=tensors_per_part)
    for key, value in {**keys, **(metadata or {})}.items():
        _add(writer, key, value)
    rng = np.random.default_rng(seed)
    for name, shape in _shapes(experts, head).items():
        values = rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(shape[-1]))
        if name.endswith("norm.weight"):
            values = 1 + values
        if name.endswith("ssm_a"):
            values = -np.abs(values)
        quantised = values.ndim > 1 and "conv" not in name and types != "F32"
        if quantised and shape[-1] % 32 == 0 and "_inp" not in name:
            kind = GGMLQuantizationType[types]
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    match value:
        case str():
            writer.add_string(key, value)
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case _:
            writer.add_array(key, list(value))


def _shapes(experts: bool, head: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    for block in range(TRUNK_BLOCKS + head):
        full = block % 4 == 3 or block == TRUNK_BLOCKS
        parts = {
            "attn_norm.weight": (HIDDEN,),
            "post_attention_norm.weight": (HIDDEN,),
            **(_full_attention() if full else _linear_attention()),
            **(_experts() if experts else _dense()),
        }
        if block == TRUNK_BLOCKS:
            parts |= {
                "nextn.eh_proj.weight": (HIDDEN, 2 * HIDDEN),
                "nextn.enorm.weight": (HIDDEN,),
                "nextn.hnorm.weight": (HIDDEN,),
                "nextn.shared_head_norm.weight": (HIDDEN,),
            }
        shapes |= {f"blk.{block}.{name}": shape for name, shape in parts.items()}
    return shapes | {"output_norm.weight": (HIDDEN,), "output.weight": (VOCABULARY, HIDDEN)}


def _full_attention() -> dict[str, tuple[int, ...]]:
    return {
        "attn_q.weight": (256, HIDDEN),
        "attn_k.weight": (64, HIDDEN),
        "attn_v.weight": (64, HIDDEN),
        "attn_output.weight": (HIDDEN, 128),
        "attn_q_norm.weight": (32,),
        "attn_k_norm.weight": (32,),
    }


def _linear_attention() -> dict[str, tuple[int, ...]]:
    return {
        "attn_qkv.weight": (256, HIDDEN),
        "attn_gate.weight": (128, HIDDEN),
        "ssm_beta.weight": (4, HIDDEN),
        "ssm_alpha.weight": (4, HIDDEN),
        "ssm_conv1d.weight": (256, 4),
        "ssm_dt.bias": (4,),
        "ssm_a": (4,),
        "ssm_norm.weight": (32,),
        "ssm_out.weight": (HIDDEN, 128),
    }


def _dense() -> dict[str, tuple[int, ...]]:
    return {
        "ffn_gate.weight": (128, HIDDEN),
        "ffn_up.weight": (128, HIDDEN),
        "ffn_down.weight": (HIDDEN, 128),
    }


def _experts() -> dict[str, tuple[int, ...]]:
    return {
        "ffn_gate_inp.weight": (EXPERTS, HIDDEN),
        "ffn_gate_exps.weight": (EXPERTS, 32, HIDDEN),
        "ffn_up_exps.weight": (EXPERTS, 32, HIDDEN),
        "ffn_down_exps.weight": (EXPERTS, HIDDEN, 32),
        "ffn_gate_inp_shexp.weight": (HIDDEN,),
        "ffn_gate_shexp.weight": (32, HIDDEN),
        "ffn_up_shexp.weight": (32, HIDDEN),
        "ffn_down_shexp.weight": (HIDDEN, 32),
    }
