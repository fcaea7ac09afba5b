"""The tiny random models of `tiny_gguf` as safetensors checkpoints, written without any library.

gguf = write_tiny_model(tmp_path / "expected.gguf", "llama")
folder = write_tiny_checkpoint(tmp_path / "model", "llama")     # the same weights
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.safetensors_bytes import Given, write_folder
from tests.support.tiny_gguf import CHATML_TEMPLATE, TinyHead, to_transformers, write_tiny_model
from tests.support.tiny_tokenizers import byte_level_bpe, sentencepiece
from tests.support.tokenizer_json import tokenizer_config, tokenizer_json

MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma3": "gemma3_text"}
_PRE = {"llama": "smollm", "qwen2": "qwen2", "qwen3": "qwen2"}
_HEAD = {
    "nextn.eh_proj": ("eh_proj", "mtp.fc"),
    "nextn.enorm": ("enorm", "mtp.pre_fc_norm_embedding"),
    "nextn.hnorm": ("hnorm", "mtp.pre_fc_norm_hidden"),
    "nextn.shared_head_norm": ("shared_head.norm", "mtp.norm"),
    "nextn.shared_head_head": ("shared_head.head", "mtp.lm_head"),
    "nextn.embed_tokens": ("embed_tokens", "mtp.embed_tokens"),
}


def tiny_config(family: str, **settings: Any) -> dict[str, Any]:
    """config.json of the model that `write_tiny_model` writes with these settings."""
    base = {"llama": 1e5}.get(family, 1e6)
    config = {
        "model_type": MODEL_TYPES[family],
        "vocab_size": settings.get("vocab", 320),
        "hidden_size": settings.get("hidden", 64),
        "intermediate_size": settings.get("ffn", 128),
        "num_hidden_layers": settings.get("layers", 2),
        "num_attention_heads": settings.get("heads", 4),
        "num_key_value_heads": settings.get("kv_heads", 2),
        "head_dim": settings.get("head_dim", 16),
        "max_position_embeddings": settings.get("context_length", 512),
        "rms_norm_eps": 1e-5 if family == "llama" else 1e-6,
        "rope_theta": base,
        "tie_word_embeddings": settings.get("tied", family in ("llama", "gemma3")),
        "torch_dtype": "float32",
    }
    if family == "gemma3":
        config["hidden_activation"] = "gelu_pytorch_tanh"
        config["sliding_window"] = settings.get("sliding_window", 32)
        config["query_pre_attn_scalar"] = config["head_dim"]
        config["rope_local_base_freq"] = 10000.0
    else:
        config["hidden_act"] = "silu"
    return config


def tiny_tokenizer(family: str, vocab: int = 320) -> dict[str, Any]:
    """The metadata of the model's tokenizer in a GGUF file."""
    if family == "gemma3":
        return sentencepiece(vocab, chat_template=None)
    return byte_level_bpe(vocab, pre=_PRE[family], chat_template=CHATML_TEMPLATE)


def tiny_state(
    family: str, *, head: TinyHead | None = None, way: str = "deepseek", **settings: Any
) -> dict[str, NDArray[np.float32]]:
    """All weights, as checkpoints call and order them.

    Args:
        family: of `tiny_gguf.FAMILIES`.
        head: a prediction head; without a draft vocabulary.
        way: how the head is stored: "deepseek", behind the blocks, or "qwen", beside them.
        settings: as of `write_tiny_model`.
    """
    with tempfile.TemporaryDirectory() as folder:
        tensors = write_tiny_model(Path(folder) / "x.gguf", family, head=head, **settings)
    layers, heads = settings.get("layers", 2), settings.get("heads", 4)
    special = {name: values for name, values in tensors.items() if ".nextn." in name}
    plain = {name: values for name, values in tensors.items() if name not in special}
    state = to_transformers(family, plain, heads=heads, kv_heads=settings.get("kv_heads", 2))
    for name, values in special.items():
        role = name.removeprefix(f"blk.{layers}.").removesuffix(".weight")
        if family == "gemma3" and role.endswith("norm"):
            values = values - np.float32(1)
        in_block, own = _HEAD[role]
        stem = own if way == "qwen" else f"model.layers.{layers}.{in_block}"
        state[f"{stem}.weight"] = values
    if way == "qwen":
        block = f"model.layers.{layers}."
        state = {re.sub(rf"^{re.escape(block)}", "mtp.layers.0.", k): v for k, v in state.items()}
    return state


def write_tiny_checkpoint(
    folder: Path,
    family: str,
    *,
    head: TinyHead | None = None,
    way: str = "deepseek",
    store: Callable[[str, NDArray[np.float32]], Mapping[str, Given]] | None = None,
    config: Mapping[str, Any] | None = None,
    shards: int = 1,
    **settings: Any,
) -> Path:
    """Write a checkpoint.

    Args:
        folder: where to.
        family: of `tiny_gguf.FAMILIES`.
        head: a prediction head, which the configuration declares.
        way: how the head is stored; see `tiny_state`.
        store: from a weight to the tensors that it is stored as; by default F32.
        config: settings to add or replace.
        shards: number of files.
        settings: as of `write_tiny_model`.
    """
    state = tiny_state(family, head=head, way=way, **settings)
    stored: dict[str, Given] = {}
    for name, values in state.items():
        stored |= {name: values} if store is None else store(name, values)
    tokenizer = tiny_tokenizer(family, settings.get("vocab", 320))
    declared = {"deepseek": "num_nextn_predict_layers", "qwen": "mtp_num_hidden_layers"}[way]
    whole = {**tiny_config(family, **settings), **({} if head is None else {declared: 1})}
    return write_folder(
        folder,
        stored,
        {**whole, **(config or {})},
        shards=shards,
        tokenizer=tokenizer_json(tokenizer),
        tokenizer_config=tokenizer_config(tokenizer),
    )
