from __future__ import annotations

import pytest

from nextn.plan import (
    Attend,
    Embed,
    Linear,
    Logits,
    Norm,
    NormWeight,
    Rotary,
    Tracer,
    Weight,
    fuse,
)


def norm(name: str, width: int = 32) -> NormWeight:
    return NormWeight(Weight(name, 1, width), 1e-5)


def trace_block(step: Tracer) -> None:
    """One block with everything that a fusion rule looks for."""
    rotary = Rotary((1.0, 0.1), interleaved=False)
    x = step.embed(Weight("table", 64, 32))
    h = step.norm(x, norm("attn_norm"))
    query = step.linear(h, Weight("q", 32, 32))
    key = step.linear(h, Weight("k", 16, 32), Weight("k.bias", 1, 16))
    value = step.linear(h, Weight("v", 16, 32))
    query = step.head_norm(query, norm("q_norm", 16), heads=2)
    key = step.head_norm(key, norm("k_norm", 16), heads=1)
    attended = step.attend(
        step.rope(query, rotary, heads=2),
        step.rope(key, rotary, heads=1),
        value,
        heads=2,
        kv_heads=1,
        head_width=16,
        scale=0.25,
    )
    x = step.add(x, step.linear(attended, Weight("o", 32, 32)))
    h = step.norm(x, norm("ffn_norm"))
    gate = step.linear(h, Weight("gate", 48, 32))
    up = step.linear(h, Weight("up", 48, 32))
    h = step.linear(step.activate(gate, up, "silu"), Weight("down", 32, 48))
    x = step.add(x, step.norm(h, norm("post_norm")))
    step.logits(step.norm(x, norm("output_norm")), Weight("output", 64, 32))


def test_a_block_fuses_to_one_operation_per_pass() -> None:
    step = Tracer()
    trace_block(step)
    plan = fuse(step.plan())
    kinds = [type(op) for op in plan.operations]
    assert kinds == [Embed, Linear, Attend, Linear, Linear, Linear, Norm, Logits]
    qkv, attend, out, gated, _, post, logits = plan.operations[1:]
    assert [w.name for w in qkv.weights] == ["q", "k", "v"]
    assert [b and b.name for b in qkv.biases] == [None, "k.bias", None]
    assert qkv.norm == norm("attn_norm")
    assert attend.rotary is not None
    assert attend.query_norm == norm("q_norm", 16)
    assert out.residual is not None
    assert gated.activation == "silu"
    assert post.residual is not None
    assert logits.norm == norm("output_norm")


def test_a_value_with_two_readers_is_not_folded_away() -> None:
    step = Tracer()
    x = step.embed(Weight("table", 64, 32))
    h = step.norm(x, norm("n"))
    y = step.linear(h, Weight("w", 32, 32))
    step.logits(step.add(h, y), Weight("output", 64, 32))
    kinds = [type(op) for op in fuse(step.plan()).operations]
    assert Norm in kinds


def test_weights_are_listed_once() -> None:
    step = Tracer()
    table = Weight("table", 64, 32)
    step.logits(step.embed(table), table)
    assert step.plan().weights == (table,)


@pytest.mark.parametrize("heads", [3, 5])
def test_heads_that_do_not_divide_are_refused(heads: int) -> None:
    step = Tracer()
    x = step.embed(Weight("table", 64, 32))
    with pytest.raises(ValueError, match=r"\[rope\]"):
        step.rope(x, Rotary((1.0,), interleaved=True), heads=heads)


def test_keys_that_are_values_too_are_not_turned_in_place() -> None:
    step = Tracer()
    rotary = Rotary((1.0, 0.1), interleaved=False)
    x = step.embed(Weight("table", 64, 32))
    query, key = (step.linear(x, Weight(name, 32, 32)) for name in ("q", "k"))
    turned = (step.rope(each, rotary, heads=2) for each in (query, key))
    attended = step.attend(*turned, key, heads=2, kv_heads=2, head_width=16, scale=0.25)
    step.logits(attended, Weight("output", 64, 32))
    (attend,) = (op for op in fuse(step.plan()).operations if isinstance(op, Attend))
    assert attend.rotary is None
    assert attend.value == key
