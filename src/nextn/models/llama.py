"""Llama (Touvron et al., 2023) and the many models of its shape, SmolLM2 among them."""

from __future__ import annotations

from nextn.errors import UnsupportedModelError
from nextn.files import Checkpoint
from nextn.models.heads import read_heads
from nextn.models.rotary import read_rotary
from nextn.models.weights import WeightReader
from nextn.plan import Tracer


def describe(checkpoint: Checkpoint, weights: WeightReader, step: Tracer) -> None:
    """Write down one step; see `nextn.models` for the contract."""
    hidden = checkpoint.integer("{arch}.embedding_length", minimum=1)
    blocks = checkpoint.integer("{arch}.block_count", minimum=1)
    feed_forward = checkpoint.integer("{arch}.feed_forward_length", minimum=1)
    heads = read_heads(checkpoint)
    epsilon = checkpoint.number("{arch}.attention.layer_norm_rms_epsilon", minimum=0.0)
    vocab_size = checkpoint.tensors["token_embd.weight"].shape[0]
    if checkpoint.integer("{arch}.expert_count", 0) > 0:
        raise UnsupportedModelError(f"{checkpoint.path}: mixture-of-experts llama is not supported")
    # The converters of this family reorder the query and key rows so that neighbours form a pair.
    rotary = read_rotary(checkpoint, weights, heads.width, interleaved=True)

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
        output_bias = weights.optional_vector(f"{block}.attn_output.bias", hidden)
        x = step.add(x, step.linear(attended, output, output_bias))

        h = step.norm(x, weights.norm(f"{block}.ffn_norm.weight", hidden, epsilon))
        gate = step.linear(h, weights.matrix(f"{block}.ffn_gate.weight", feed_forward, hidden))
        up = step.linear(h, weights.matrix(f"{block}.ffn_up.weight", feed_forward, hidden))
        down = weights.matrix(f"{block}.ffn_down.weight", hidden, feed_forward)
        x = step.add(x, step.linear(step.activate(gate, up, "silu"), down))
    x = step.norm(x, weights.norm("output_norm.weight", hidden, epsilon))
    step.logits(x, weights.output(vocab_size, hidden))
