"""Gemma 3 (Gemma Team, 2025), text only: local and global layers, norms around each block."""

from __future__ import annotations

import math

from nextn.files import Checkpoint
from nextn.models.family import Family
from nextn.models.heads import read_heads
from nextn.models.rotary import read_rotary
from nextn.models.weights import WeightReader
from nextn.plan import Tracer, Value

_LOCAL_FREQUENCY_BASE = 10000.0
_GLOBAL_LAYER_EVERY = 6
_BLOCKS_OF_27B = 62
_MOST_POSITIONS = (1 << 31) - 1


class Model(Family):
    """See `nextn.models` for the contract."""

    def __init__(self, checkpoint: Checkpoint, weights: WeightReader) -> None:
        super().__init__(checkpoint, weights)
        self.heads = read_heads(checkpoint, default_width=256)
        self.window = checkpoint.integer(
            "{arch}.attention.sliding_window", minimum=1, maximum=_MOST_POSITIONS
        )
        self.embedding_scale = math.sqrt(self.hidden)
        # The 27B model alone scales by the width per head of the hidden state, and its file says
        # nothing about it.
        is_27b = self.blocks == _BLOCKS_OF_27B
        scaled_width = self.hidden // self.heads.queries if is_27b else self.heads.width
        self.scale = scaled_width**-0.5
        self.rotary_global = read_rotary(checkpoint, weights, self.heads.width, interleaved=False)
        self.rotary_local = read_rotary(
            checkpoint,
            weights,
            self.heads.width,
            interleaved=False,
            base=_LOCAL_FREQUENCY_BASE,
            scaled=False,
        )

    def block(self, step: Tracer, x: Value, weights: WeightReader, n: int) -> Value:
        """Attention, then a gated feed-forward block; each normed before and after, and added."""
        block, hidden, heads = f"blk.{n}", self.hidden, self.heads
        is_global = (n + 1) % _GLOBAL_LAYER_EVERY == 0
        rotary = self.rotary_global if is_global else self.rotary_local
        h = step.norm(x, weights.norm(f"{block}.attn_norm.weight", hidden, self.epsilon))
        query, key, value = (
            step.linear(
                h, weights.matrix(f"{block}.attn_{name}.weight", rows * heads.width, hidden)
            )
            for name, rows in (("q", heads.queries), ("k", heads.keys), ("v", heads.keys))
        )
        query_norm = weights.norm(f"{block}.attn_q_norm.weight", heads.width, self.epsilon)
        key_norm = weights.norm(f"{block}.attn_k_norm.weight", heads.width, self.epsilon)
        query = step.head_norm(query, query_norm, heads=heads.queries)
        key = step.head_norm(key, key_norm, heads=heads.keys)
        attended = step.attend(
            step.rope(query, rotary, heads=heads.queries),
            step.rope(key, rotary, heads=heads.keys),
            value,
            heads=heads.queries,
            kv_heads=heads.keys,
            head_width=heads.width,
            scale=self.scale,
            window=None if is_global else self.window,
        )
        output = weights.matrix(f"{block}.attn_output.weight", hidden, heads.queries * heads.width)
        h = step.linear(attended, output)
        post_norm = weights.norm(f"{block}.post_attention_norm.weight", hidden, self.epsilon)
        x = step.add(x, step.norm(h, post_norm))

        h = step.norm(x, weights.norm(f"{block}.ffn_norm.weight", hidden, self.epsilon))
        gate = step.linear(h, weights.matrix(f"{block}.ffn_gate.weight", self.feed_forward, hidden))
        up = step.linear(h, weights.matrix(f"{block}.ffn_up.weight", self.feed_forward, hidden))
        down = weights.matrix(f"{block}.ffn_down.weight", hidden, self.feed_forward)
        h = step.linear(step.activate(gate, up, "gelu"), down)
        post_norm = weights.norm(f"{block}.post_ffw_norm.weight", hidden, self.epsilon)
        return step.add(x, step.norm(h, post_norm))
