"""Whole models in less than 8 kB, byte by byte, for tests that change their metadata."""

from __future__ import annotations

from tests.support.gguf_bytes import (
    F32,
    I32,
    STRING,
    U32,
    GgufBytes,
    array_entry,
    number,
    number_entry,
    string,
    tensor_entry,
    text_entry,
)

VOCAB, HIDDEN, FFN, HEADS, WIDTH = 4, 32, 32, 2, 16
BLOCK_BYTES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34)}


def small_model(family: str, format_name: str = "Q8_0", **keys: float | str) -> bytes:
    """A model file of one block with zeros for weights, in less than 8 kB.

    Args:
        family: "llama", "gemma3", "qwen3" or "qwen2".
        format_name: of the matrices.
        keys: further metadata below the name of the family; "__" stands for a dot.
    """
    prefix = family + "."
    metadata = [
        text_entry("general.architecture", family),
        text_entry("tokenizer.ggml.model", "gpt2"),
        array_entry("tokenizer.ggml.tokens", STRING, map(string, ["a", "b", "ab", "<|im_end|>"])),
        array_entry("tokenizer.ggml.merges", STRING, [string("a b")]),
        array_entry("tokenizer.ggml.token_type", I32, [number(I32, n) for n in (1, 1, 1, 3)]),
        number_entry("tokenizer.ggml.eos_token_id", U32, 3),
        text_entry("tokenizer.chat_template", "{{ messages[0].content }}"),
    ]
    numbers = {
        "block_count": 1,
        "context_length": 64,
        "embedding_length": HIDDEN,
        "feed_forward_length": FFN,
        "attention__head_count": HEADS,
        "attention__head_count_kv": 1,
        "attention__layer_norm_rms_epsilon": 1e-5,
        "rope__freq_base": 10000.0,
    }
    if family in ("gemma3", "qwen3"):
        numbers |= {"attention__key_length": WIDTH, "attention__sliding_window": 8}
    for name, value in {**numbers, **keys}.items():
        key = prefix + name.replace("__", ".")
        if isinstance(value, str):
            metadata.append(text_entry(key, value))
        else:
            metadata.append(number_entry(key, F32 if isinstance(value, float) else U32, value))
    tensors, end = [], 0
    for name, sizes in _shapes(family):
        type_id, elements, size = BLOCK_BYTES[format_name if len(sizes) > 1 else "F32"]
        rows = sizes[1] if len(sizes) > 1 else 1
        tensors.append(tensor_entry(name, sizes, type_id, end))
        end += -(-rows * sizes[0] // elements * size // 32) * 32
    return GgufBytes(metadata=metadata, tensors=tensors, data=bytes(end)).build()


def _shapes(family: str) -> list[tuple[str, list[int]]]:
    """Names and sizes of all tensors; the contraction dimension comes first."""
    queries = HEADS * WIDTH
    block = {
        "attn_norm.weight": [HIDDEN],
        "attn_q.weight": [HIDDEN, queries],
        "attn_k.weight": [HIDDEN, WIDTH],
        "attn_v.weight": [HIDDEN, WIDTH],
        "attn_output.weight": [queries, HIDDEN],
        "ffn_norm.weight": [HIDDEN],
        "ffn_gate.weight": [HIDDEN, FFN],
        "ffn_up.weight": [HIDDEN, FFN],
        "ffn_down.weight": [FFN, HIDDEN],
    }
    if family in ("gemma3", "qwen3"):
        block |= {"attn_q_norm.weight": [WIDTH], "attn_k_norm.weight": [WIDTH]}
    if family == "gemma3":
        block |= {"post_attention_norm.weight": [HIDDEN], "post_ffw_norm.weight": [HIDDEN]}
    if family == "qwen2":
        block |= {"attn_q.bias": [queries], "attn_k.bias": [WIDTH], "attn_v.bias": [WIDTH]}
    return [
        ("token_embd.weight", [HIDDEN, VOCAB]),
        *((f"blk.0.{name}", sizes) for name, sizes in block.items()),
        ("output_norm.weight", [HIDDEN]),
    ]
