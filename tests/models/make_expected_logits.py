"""Computes the stored logits of test_reference_logits.py with Hugging Face transformers.

    python -m tests.models.make_expected_logits

Needs torch and transformers. The tiny models are random, from a fixed seed, so only the logits are
stored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tests.models.tiny_families import DATA, FAMILIES, TOKENS
from tests.support.tiny_gguf import to_transformers, write_tiny_model

EPSILON = {"llama": 1e-5, "qwen2": 1e-6, "qwen3": 1e-6, "gemma3": 1e-6}
FREQUENCY_BASE = {"llama": 1e5, "qwen2": 1e6, "qwen3": 1e6, "gemma3": 1e6}


def build(family: str, settings: dict) -> torch.nn.Module:
    """The transformers model of the same shape."""
    common = {
        "vocab_size": settings["vocab"],
        "hidden_size": settings["hidden"],
        "intermediate_size": settings["ffn"],
        "num_hidden_layers": settings["layers"],
        "num_attention_heads": settings["heads"],
        "num_key_value_heads": settings["kv_heads"],
        "head_dim": settings["head_dim"],
        "rms_norm_eps": EPSILON[family],
        "tie_word_embeddings": settings["tied"],
        "attn_implementation": "eager",
    }
    rope = {"rope_type": "default", "rope_theta": FREQUENCY_BASE[family]}
    match family:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**common, rope_parameters=rope))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**common, rope_parameters=rope))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**common, rope_parameters=rope))
    local = {"rope_type": "default", "rope_theta": 10000.0}
    config = Gemma3TextConfig(
        **common,
        sliding_window=settings["sliding_window"],
        query_pre_attn_scalar=settings["head_dim"],
        rope_parameters={"full_attention": rope, "sliding_attention": local},
        hidden_activation="gelu_pytorch_tanh",
    )
    return Gemma3ForCausalLM(config)


def main() -> None:
    """Write data/NAME.npy for every family."""
    DATA.mkdir(exist_ok=True)
    for family, settings in FAMILIES.items():
        with tempfile.TemporaryDirectory() as folder:
            tensors = write_tiny_model(Path(folder) / "tiny.gguf", family, **settings)
        model = build(family, settings).float().eval()
        state = to_transformers(
            family, tensors, heads=settings["heads"], kv_heads=settings["kv_heads"]
        )
        missing, unexpected = model.load_state_dict(
            {name: torch.tensor(value) for name, value in state.items()}, strict=False
        )
        left = [name for name in missing if name != "lm_head.weight"]
        if left or unexpected:
            raise SystemExit(f"{family}: missing {left}, unexpected {unexpected}")
        model.tie_weights()
        with torch.no_grad():
            logits = model(torch.tensor([TOKENS])).logits[0].numpy()
        np.save(DATA / f"{family}.npy", logits.astype(np.float32))
        print(family, logits.shape, float(np.abs(logits).max()))


if __name__ == "__main__":
    main()
