"""Qwen3 (Yang et al., 2025): head norms, no biases; and Qwen2: biases, no head norms."""

from __future__ import annotations

from nextn.files import Checkpoint
from nextn.models.heads import read_heads
from nextn.models.rotary import read_rotary
from nextn.models.weights import WeightReader
from nextn.plan import Tracer

ALSO_SERVES = ("qwen2",)


def describe(checkpoint: Checkpoint, weights: WeightReader, step: Tracer) -> None:
    """Write down one step; see `nextn.models` for the contract."""
    hidden = checkpoint.integer("{arch}.embedding_length", minimum=1)
    # The block count includes the blocks of a prediction head, which stand last.
    blocks = checkpoint.integer("{arch}.block_count", minimum=1) - checkpoint.integer(
        "{arch}.nextn_predict_layers", 0, minimum=0
    )
    feed_forward = checkpoint.integer("{arch}.feed_forward_length", minimum=1)
    heads = read_heads(checkpoint)
    epsilon = checkpoint.number("{arch}.attention.layer_norm_rms_epsilon", minimum=0.0)
    vocab_size = checkpoint.tensors["token_embd.weight"].shape[0]
    has_head_norms = checkpoint.architecture == "qwen3"
    rotary = read_rotary(checkpoint, weights, heads.width, interleaved=False)

    x = step.embed(weights.matrix("token_embd.weight", vocab_size, hidden))
    for n in range(blocks):
        block = f"blk.{n}"
        h = step.norm(x, weights.norm(f"{block}.attn_norm.weight", hidden, epsilon))
        query, key, value = (
            step.linear(
                h,
                weights.matrix(f"{block}.attn_{name}.weight", rows * heads.width, hidden),
                weights.optional_vector(f"{block}.attn_{name}.bias", rows * heads.width),
            )
            for name, rows in (("q", heads.queries), ("k", heads.keys), ("v", heads.keys))
        )
        if has_head_norms:
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
            scale=heads.width**-0.5,
        )
        output = weights.matrix(f"{block}.attn_output.weight", hidden, heads.queries * heads.width)
        x = step.add(x, step.linear(attended, output))

        h = step.norm(x, weights.norm(f"{block}.ffn_norm.weight", hidden, epsilon))
        gate = step.linear(h, weights.matrix(f"{block}.ffn_gate.weight", feed_forward, hidden))
        up = step.linear(h, weights.matrix(f"{block}.ffn_up.weight", feed_forward, hidden))
        down = weights.matrix(f"{block}.ffn_down.weight", hidden, feed_forward)
        x = step.add(x, step.linear(step.activate(gate, up, "silu"), down))
    x = step.norm(x, weights.norm("output_norm.weight", hidden, epsilon))
    step.logits(x, weights.output(vocab_size, hidden))
