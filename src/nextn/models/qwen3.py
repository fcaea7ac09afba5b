"""Qwen3 (Yang et al., 2025): head norms, no biases; and Qwen2: biases, no head norms."""

from __future__ import annotations

from nextn.files import Checkpoint
from nextn.models.family import Family
from nextn.models.heads import read_heads
from nextn.models.rotary import read_rotary
from nextn.models.weights import WeightReader
from nextn.plan import Tracer, Value


class Model(Family):
    """See `nextn.models` for the contract."""

    ALSO_SERVES = ("qwen2",)

    def __init__(self, checkpoint: Checkpoint, weights: WeightReader) -> None:
        super().__init__(checkpoint, weights)
        self.heads = read_heads(checkpoint)
        self.has_head_norms = checkpoint.architecture == "qwen3"
        self.rotary = read_rotary(checkpoint, weights, self.heads.width, interleaved=False)

    def block(self, step: Tracer, x: Value, weights: WeightReader, n: int) -> Value:
        """Attention, then a gated feed-forward block; each on the normed state, and added to it."""
        block, hidden, heads = f"blk.{n}", self.hidden, self.heads
        h = step.norm(x, weights.norm(f"{block}.attn_norm.weight", hidden, self.epsilon))
        query, key, value = (
            step.linear(
                h,
                weights.matrix(f"{block}.attn_{name}.weight", rows * heads.width, hidden),
                weights.optional_vector(f"{block}.attn_{name}.bias", rows * heads.width),
            )
            for name, rows in (("q", heads.queries), ("k", heads.keys), ("v", heads.keys))
        )
        if self.has_head_norms:
            query_norm = weights.norm(f"{block}.attn_q_norm.weight", heads.width, self.epsilon)
            key_norm = weights.norm(f"{block}.attn_k_norm.weight", heads.width, self.epsilon)
            query = step.head_norm(query, query_norm, heads=heads.queries)
            key = step.head_norm(key, key_norm, heads=heads.keys)
        attended = step.attend(
            step.rope(query, self.rotary, heads=heads.queries),
            step.rope(key, self.rotary, heads=heads.keys),
            value,
            heads=heads.queries,
            kv_heads=heads.keys,
            head_width=heads.width,
            scale=heads.width**-0.5,
        )
        output = weights.matrix(f"{block}.attn_output.weight", hidden, heads.queries * heads.width)
        x = step.add(x, step.linear(attended, output))

        h = step.norm(x, weights.norm(f"{block}.ffn_norm.weight", hidden, self.epsilon))
        gate = step.linear(h, weights.matrix(f"{block}.ffn_gate.weight", self.feed_forward, hidden))
        up = step.linear(h, weights.matrix(f"{block}.ffn_up.weight", self.feed_forward, hidden))
        down = weights.matrix(f"{block}.ffn_down.weight", hidden, self.feed_forward)
        return step.add(x, step.linear(step.activate(gate, up, "silu"), down))
