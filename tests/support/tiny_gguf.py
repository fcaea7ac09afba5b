"""Tiny random models as GGUF files, written by the `gguf` package: llama, gemma3, qwen3, qwen2.

    weights = write_tiny_model(tmp_path / "tiny.gguf", "qwen3", types={"attn_v": "Q8_0"})
    write_tiny_model(tmp_path / "tiny.gguf", "llama", head=TinyHead(draft_vocab=range(0, 320, 2)))
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead())     # a file of its own

The dimensions are small, the keys and tensor names are those of real files. K-quants and
IQ4_XS need rows of 256 elements: pass hidden=256, and heads * head_dim and ffn that are multiples
of 256 too.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from tests.support.random_blocks import random_blocks
from tests.support.tiny_tokenizers import CHATML_TEMPLATE, byte_level_bpe, sentencepiece

__all__ = [
    "CHATML_TEMPLATE",
    "FAMILIES",
    "TinyHead",
    "random_blocks",
    "to_transformers",
    "write_tiny_head",
    "write_tiny_model",
]

FAMILIES = ("llama", "gemma3", "qwen3", "qwen2")

_TIED = {"llama": True, "gemma3": True, "qwen3": False, "qwen2": False}
_FREQUENCY_BASE = {"llama": 100_000.0, "gemma3": 1_000_000.0, "qwen3": 1e6, "qwen2": 1e6}
_EPSILON = {"llama": 1e-5, "gemma3": 1e-6, "qwen3": 1e-6, "qwen2": 1e-6}
_PRE_TOKENIZER = {"llama": "smollm", "qwen3": "qwen2", "qwen2": "qwen2"}
# The `gguf` package cannot write these.
_RANDOM_ONLY = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "NVFP4")


@dataclass(frozen=True)
class TinyHead:
    """What a prediction head is like.

    Attributes:
        hidden_kind: "nextn.head.hidden"; None leaves the key out.
        draft_vocab: token ids; None for none.
        own_norm: whether it has a last norm of its own.
        own_output: whether it has an output matrix of its own.
        own_table: whether it has embeddings of its own.
        noise: None for random weights. A number makes it a copy of a trunk of one block, so that it
            predicts the same; its projection is disturbed by so much.
    """

    hidden_kind: Literal["post", "pre"] | None = None
    draft_vocab: Sequence[int] | None = None
    own_norm: bool = True
    own_output: bool = False
    own_table: bool = False
    noise: float | None = None


def write_tiny_head(
    path: str | Path, family: str, head: TinyHead, **settings: Any
) -> dict[str, NDArray[np.float32]]:
    """Write a head-only file for the model that `write_tiny_model` writes with the same settings.

    The tensors are those of a model with this head inside. Arguments and result as there.
    """
    return write_tiny_model(path, family, head=head, parts=("head",), **settings)


def write_tiny_model(
    path: str | Path,
    family: str,
    *,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 16,
    ffn: int = 128,
    vocab: int = 320,
    types: str | Mapping[str, str] = "F32",
    scales: Mapping[str, float] | None = None,
    tied: bool | None = None,
    seed: int = 0,
    context_length: int = 512,
    sliding_window: int = 32,
    chat_template: str | None = CHATML_TEMPLATE,
    metadata: Mapping[str, Any] | None = None,
    tensors_per_part: int = 0,
    head: TinyHead | None = None,
    parts: Sequence[str] = ("trunk", "head"),
) -> dict[str, NDArray[np.float32]]:
    """Write a model file.

    Args:
        path: the file; of a split model, the name that the part numbers are added to.
        family: one of `FAMILIES`.
        hidden: width of the residual stream.
        layers: number of blocks (gemma3: every sixth one is global).
        heads: query heads.
        kv_heads: key/value heads.
        head_dim: width of a head. Llama and qwen2 files have no key for it: there it must be
            hidden // heads.
        ffn: width of the feed-forward block.
        vocab: number of tokens; the tokenizer is padded to it.
        types: block format of all matrices, or by role, as {"ffn_down": "Q6_K", "default": "F16"}.
            Roles are tensor names without "blk.N." and ".weight". Norms and biases are F32.
        scales: by role, what the product of a matrix is multiplied by; a tensor of its own.
        tied: no output matrix of its own; by default as usual in the family.
        seed: of all random weights.
        context_length: what the file says the model was trained for.
        sliding_window: width of gemma3's local layers.
        chat_template: Jinja source, or None; gemma3 base models have none, and get none.
        metadata: keys to add or replace; None as a value leaves a key out.
        tensors_per_part: write a split model with so many tensors in a part.
        head: a prediction head in the block after the trunk's.
        parts: what of it to write; the metadata are those of a model with all of it.

    Returns:
        Every tensor as float32, dequantised by the `gguf` package; NumPy shapes, rows first.
    """
    if family not in FAMILIES:
        raise ValueError(f"{family!r} is not one of {', '.join(FAMILIES)}")
    if family in ("llama", "qwen2") and hidden != heads * head_dim:
        raise ValueError(f"{family} needs hidden = heads * head_dim")
    tied = _TIED[family] if tied is None else tied
    keys: dict[str, Any] = {
        "general.type": "model",
        "general.name": f"Tiny {family}",
        f"{family}.block_count": layers,
        f"{family}.context_length": context_length,
        f"{family}.embedding_length": hidden,
        f"{family}.feed_forward_length": ffn,
        f"{family}.attention.head_count": heads,
        f"{family}.attention.head_count_kv": kv_heads,
        f"{family}.attention.layer_norm_rms_epsilon": _EPSILON[family],
        f"{family}.rope.freq_base": _FREQUENCY_BASE[family],
    }
    if family == "llama":
        keys["llama.vocab_size"] = vocab
        keys["llama.rope.dimension_count"] = head_dim
    if family in ("gemma3", "qwen3"):
        keys[f"{family}.attention.key_length"] = head_dim
        keys[f"{family}.attention.value_length"] = head_dim
    if family == "gemma3":
        keys["gemma3.attention.sliding_window"] = sliding_window
        keys |= sentencepiece(vocab, chat_template=None)
    else:
        pre = _PRE_TOKENIZER[family]
        keys |= byte_level_bpe(vocab, pre=pre, chat_template=chat_template)
    keys["general.quantization_version"] = 2
    if head is not None:
        keys[f"{family}.block_count"] = layers + 1
        keys[f"{family}.nextn_predict_layers"] = 1
        keys["nextn.head.hidden"] = head.hidden_kind
    keys |= metadata or {}

    writer = GGUFWriter(path, family, split_max_tensors=tensors_per_part)
    for key, value in keys.items():
        add_key(writer, key, value)
    sizes = (hidden, heads * head_dim, kv_heads * head_dim, head_dim, ffn)
    values = _random_values(_shapes(family, layers, sizes, vocab, tied), seed)
    if head is not None:
        head_values = _random_values(_head_shapes(family, layers, sizes, vocab, head), seed + 1)
        if head.noise is not None:
            _copy_trunk(values, head_values, layers, head.noise)
        values = ({} if "trunk" not in parts else values) | (
            {} if "head" not in parts else head_values
        )
    weights = {}
    for name, each in values.items():
        type_name = _type_of(name, types) if each.ndim == 2 else "F32"
        weights[name] = _add_tensor(writer, name, each, type_name, seed)
        if scales is not None and each.ndim == 2 and _role(name) in scales:
            scale = name.replace(".weight", ".scale")
            weights[scale] = np.array([scales[_role(name)]], np.float32)
            writer.add_tensor(scale, weights[scale])
    if head is not None and head.draft_vocab is not None and "head" in parts:
        ids = np.array(list(head.draft_vocab), np.int32)
        writer.add_tensor(f"blk.{layers}.nextn.draft_vocab", ids)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def to_transformers(
    family: str, tensors: Mapping[str, NDArray[np.float32]], *, heads: int, kv_heads: int
) -> dict[str, NDArray[np.float32]]:
    """The same weights under the names of the `transformers` library.

    Undoes what GGUF converters do: llama's query and key rows are reordered, so that the two
    elements of a rotary pair are neighbours, and gemma3's norm weights are stored as 1 + w. A tied
    output matrix is left out; the library ties it itself.
    """
    state = {}
    for name, values in tensors.items():
        role = _role(name)
        if family == "llama" and role in ("attn_q", "attn_k"):
            count = heads if role == "attn_q" else kv_heads
            pairs = values.reshape(count, -1, 2, values.shape[-1])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        if family == "gemma3" and role.endswith("norm"):
            values = values - np.float32(1)
        state[_transformers_name(family, name)] = values
    return state


def _role(name: str) -> str:
    """`blk.3.attn_q.weight` is the role `attn_q`."""
    return name.removesuffix(".weight").removesuffix(".bias").split(".")[-1]


def _type_of(name: str, types: str | Mapping[str, str]) -> str:
    if isinstance(types, str):
        return types
    return types.get(_role(name), types.get("default", "F32"))


def _shapes(
    family: str, layers: int, sizes: tuple[int, ...], vocab: int, tied: bool
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the trunk's tensors, in the order of the file."""
    hidden = sizes[0]
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (vocab, hidden)}
    for n in range(layers):
        shapes |= _block_shapes(family, n, sizes)
    shapes["output_norm.weight"] = (hidden,)
    if not tied:
        shapes["output.weight"] = (vocab, hidden)
    return shapes


def _block_shapes(family: str, n: int, sizes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    hidden, query, key, head_dim, ffn = sizes
    block: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (hidden,),
        "attn_q.weight": (query, hidden),
        "attn_k.weight": (key, hidden),
        "attn_v.weight": (key, hidden),
        "attn_output.weight": (hidden, query),
        "ffn_norm.weight": (hidden,),
        "ffn_gate.weight": (ffn, hidden),
        "ffn_up.weight": (ffn, hidden),
        "ffn_down.weight": (hidden, ffn),
    }
    if family in ("gemma3", "qwen3"):
        block |= {"attn_q_norm.weight": (head_dim,), "attn_k_norm.weight": (head_dim,)}
    if family == "gemma3":
        block |= {"post_attention_norm.weight": (hidden,), "post_ffw_norm.weight": (hidden,)}
    if family == "qwen2":
        block |= {"attn_q.bias": (query,), "attn_k.bias": (key,), "attn_v.bias": (key,)}
    return {f"blk.{n}.{name}": shape for name, shape in block.items()}


def _head_shapes(
    family: str, n: int, sizes: tuple[int, ...], vocab: int, head: TinyHead
) -> dict[str, tuple[int, ...]]:
    hidden = sizes[0]
    own: dict[str, tuple[int, ...]] = {
        "eh_proj": (hidden, 2 * hidden),
        "enorm": (hidden,),
        "hnorm": (hidden,),
    }
    if head.own_norm:
        own["shared_head_norm"] = (hidden,)
    if head.own_output:
        own["shared_head_head"] = (len(head.draft_vocab or range(vocab)), hidden)
    if head.own_table:
        own["embed_tokens"] = (vocab, hidden)
    shapes = {f"blk.{n}.nextn.{name}.weight": shape for name, shape in own.items()}
    return shapes | _block_shapes(family, n, sizes)


def _random_values(
    shapes: Mapping[str, tuple[int, ...]], seed: int
) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape)
        if name.endswith("norm.weight"):
            values = 1.0 + 0.1 * values
        else:
            values *= 0.1 if name.endswith(".bias") else shape[-1] ** -0.5
        result[name] = values.astype(np.float32)
    return result


def _copy_trunk(
    trunk: dict[str, NDArray[np.float32]],
    head: dict[str, NDArray[np.float32]],
    layers: int,
    noise: float,
) -> None:
    """Make the head what a trunk of one block is, so that both predict the same.

    The embeddings get equal lengths, so that the head's norm of them can be undone by its weight;
    the hidden state is multiplied by zero, but for the noise.
    """
    if layers != 1:
        raise ValueError("only a trunk of one block can be copied")
    table = trunk["token_embd.weight"]
    table /= np.sqrt(np.mean(table**2, axis=1, keepdims=True))
    width = table.shape[1]
    for name in head:
        role = name.removeprefix("blk.1.")
        if f"blk.0.{role}" in trunk:
            head[name] = trunk[f"blk.0.{role}"]
    head["blk.1.nextn.eh_proj.weight"] *= noise
    head["blk.1.nextn.eh_proj.weight"][:, :width] += np.eye(width, dtype=np.float32)
    for norm in ("enorm", "hnorm"):
        head[f"blk.1.nextn.{norm}.weight"][:] = 1
    if "blk.1.nextn.shared_head_norm.weight" in head:
        head["blk.1.nextn.shared_head_norm.weight"] = trunk["output_norm.weight"]


def _add_tensor(
    writer: GGUFWriter,
    name: str,
    values: NDArray[np.float32],
    type_name: str,
    seed: int,
) -> NDArray[np.float32]:
    kind = GGMLQuantizationType[type_name]
    if type_name in _RANDOM_ONLY:
        data = random_blocks(type_name, *values.shape, seed=zlib.crc32(name.encode()) + seed)
    else:
        data = quantize(values, kind)
    writer.add_tensor(name, data, raw_dtype=kind)
    return dequantize(data, kind).astype(np.float32)


def add_key(writer: GGUFWriter, key: str, value: Any) -> None:
    """Add a metadata key of the type that suits the value; None adds nothing."""
    match value:
        case None:
            pass
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


_TRANSFORMERS_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_GEMMA_NAMES = {
    "ffn_norm": "pre_feedforward_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def _transformers_name(family: str, name: str) -> str:
    whole = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    if name in whole:
        return whole[name]
    _, number, role, suffix = name.split(".")
    names = _TRANSFORMERS_NAMES | (_GEMMA_NAMES if family == "gemma3" else {})
    return f"model.layers.{number}.{names[role]}.{suffix}"
