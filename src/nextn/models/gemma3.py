"""Gemma 3 (Gemma Team, 2025), text only: local and global layers, norms around each block."""

from __future__ import annotations

import math

from nextn.files import Checkpoint
from nextn.models.heads import read_heads
from nextn.models.rotary import read_rotary
from nextn.models.weights import WeightReader
from nextn.plan import Tracer

_LOCAL_FREQUENCY_BASE = 10000.0
_GLOBAL_LAYER_EVERY = 6
_BLOCKS_OF_27B = 62
_MOST_POSITIONS = (1 << 31) - 1


def describe(checkpoint: Checkpoint, weights: WeightReader, step: Tracer) -> None:
    """Write down one step; see `nextn.models` for the contract."""
    hidden = checkpoint.integer("{arch}.embedding_length", minimum=1)
    blocks = checkpoint.integer("{arch}.block_count", minimum=1)
    feed_forward = checkpoint.integer("{arch}.feed_forward_length", minimum=1)
    heads = read_heads(checkpoint, default_width=256)
    window = checkpoint.integer(
        "{arch}.attention.sliding_window", minimum=1, maximum=_MOST_POSITIONS
    )
    epsilon = checkpoint.number("{arch}.attention.layer_norm_rms_epsilon", minimum=0.0)
    vocab_size = checkpoint.tensors["token_embd.weight"].shape[0]
    # The 27B model alone scales by the width per head of the hidden state, and its file says
    # nothing about it.
    scaled_width = hidden // heads.queries if blocks == _BLOCKS_OF_27B else heads.width
    rotary_global = read_rotary(checkpoint, weights, heads.width, interleaved=False)
    rotary_local = read_rotary(
        checkpoint,
        weights,
        heads.width,
        interleaved=False,
        base=_LOCAL_FREQUENCY_BASE,
        scaled=False,
    )

    table = weights.matrix("token_embd.weight", vocab_size, hidden)
    x = step.embed(table, scale=math.sqrt(hidden))
    for n in range(blocks):
        block = f"blk.{n}"
        is_global = (n + 1) % _GLOBAL_LAYER_EVERY == 0
        rotary = rotary_global if is_global else rotary_local
        h = step.norm(x, weights.norm(f"{block}.attn_norm.weight", hidden, epsilon))
        query, key, value = (
            step.linear(
                h, weights.matrix(f"{block}.attn_{name}.weight", rows * heads.width, hidden)
            )
            for name, rows in (("q", heads.queries), ("k", heads.keys), ("v", heads.keys))
        )
        query_norm = weights.norm(f"{block}.attn_q_norm.weight", heads.width, epsilon)
        key_norm = weights.norm(f"{block}.attn_k_norm.weight", heads.width, epsilon)
        query = step.head_norm(query, query_norm, heads=heads.queries)
        key = step.head_norm(key, key_norm, heads=heads.keys)
        attended = step.attend(
            step.rope(query, rotary, heads=heads.queries),
            step.rope(key, rotary, heads=heads.keys),
            value,
            heads=heads.queries,
            kv_heads=heads.keys,
            head_width=heads.width,
            scale=scaled_width**-0.5,
            window=None if is_global else window,
        )
        h = step.linear(
            attended,
            weights.matrix(f"{block}.attn_output.weight", hidden, heads.queries * heads.width),
        )
        post_norm = weights.norm(f"{block}.post_attention_norm.weight", hidden, epsilon)
        x = step.add(x, step.norm(h, post_norm))

        h = step.norm(x, weights.norm(f"{block}.ffn_norm.weight", hidden, epsilon))
        gate = step.linear(h, weights.matrix(f"{block}.ffn_gate.weight", feed_forward, hidden))
        up = step.linear(h, weights.matrix(f"{block}.ffn_up.weight", feed_forward, hidden))
        down = weights.matrix(f"{block}.ffn_down.weight", hidden, feed_forward)
        h = step.linear(step.activate(gate, up, "gelu"), down)
        post_norm = weights.norm(f"{block}.post_ffw_norm.weight", hidden, epsilon)
        x = step.add(x, step.norm(h, post_norm))
    x = step.norm(x, weights.norm("output_norm.weight", hidden, epsilon))
    step.logits(x, weights.output(vocab_size, hidden))
