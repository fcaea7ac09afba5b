from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn import _native
from nextn.backends import CACHE_TYPES
from nextn.errors import UnsupportedModelError
from nextn.plan import NormWeight, Plan, Rotary, Tracer, Weight, fuse
from tests.backends.synthetic import (
    SyntheticCheckpoint,
    both_executors,
    joined_rows,
    sequence_rows,
)

VOCAB, HIDDEN, HEADS, KV_HEADS, HEAD_WIDTH = 61, 64, 6, 2, 48
WIDTH_OF_Q8 = 96  # a multiple of 32, but not of 64
LENGTH = 700  # more than two chunks of keys


def attention_plan(
    *, window: int | None = None, interleaved: bool = False, head_width: int = HEAD_WIDTH
) -> Plan:
    step = Tracer()
    rotary = Rotary(tuple(0.5**i for i in range(16)), interleaved, magnitude=1.1)
    x = step.embed(Weight("table", VOCAB, HIDDEN))
    query = step.linear(x, Weight("q", HEADS * head_width, HIDDEN))
    key = step.linear(x, Weight("k", KV_HEADS * head_width, HIDDEN))
    value = step.linear(x, Weight("v", KV_HEADS * head_width, HIDDEN))
    query = step.head_norm(query, NormWeight(Weight("qn", 1, head_width), 1e-5), heads=HEADS)
    key = step.head_norm(key, NormWeight(Weight("kn", 1, head_width), 1e-5), heads=KV_HEADS)
    attended = step.attend(
        step.rope(query, rotary, heads=HEADS),
        step.rope(key, rotary, heads=KV_HEADS),
        value,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_width=head_width,
        scale=head_width**-0.5,
        window=window,
    )
    x = step.add(x, step.linear(attended, Weight("o", HIDDEN, HEADS * head_width)))
    step.logits(x, Weight("output", VOCAB, HIDDEN))
    return step.plan()


def tokens(count: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, VOCAB, count).tolist()


def run(executor, sequence: list[int], chunks: list[int], slot: int = 0) -> np.ndarray:
    """Logits of a whole sequence, computed in chunks of the given lengths, repeated."""
    logits, position, turn = [], 0, 0
    while position < len(sequence):
        size = chunks[turn % len(chunks)]
        part = sequence[position : position + size]
        logits.append(executor.step(sequence_rows(part, position, slot)).copy())
        position += len(part)
        turn += 1
    return np.concatenate(logits)


@pytest.mark.parametrize("kernels", _native.available_kernels())
@pytest.mark.parametrize("window", [None, 40, 300])
@pytest.mark.parametrize("fused", [True, False])
def test_attention_matches_the_reference(kernels: str, window: int | None, fused: bool) -> None:
    plan = attention_plan(window=window, interleaved=fused)
    plan = fuse(plan) if fused else plan
    reference, native = both_executors(plan, SyntheticCheckpoint(plan), kernels=kernels)
    sequence = tokens(LENGTH if kernels != "scalar" else 300)
    got, expected = run(native, sequence, [64]), run(reference, sequence, [64])
    # Keys and values are kept in float16.
    assert np.abs(got - expected).max() < 2e-3 * np.abs(expected).max()


@pytest.mark.parametrize("kernels", _native.available_kernels())
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("head_width", [32, WIDTH_OF_Q8, 128])
def test_attention_over_a_q8_0_cache_matches_the_reference(
    kernels: str, window: int | None, head_width: int
) -> None:
    plan = fuse(attention_plan(window=window, head_width=head_width))
    reference, native = both_executors(
        plan, SyntheticCheckpoint(plan), kernels=kernels, cache_type="q8_0"
    )
    sequence = tokens(LENGTH if kernels != "scalar" else 300)
    got, expected = run(native, sequence, [64]), run(reference, sequence, [64])
    # A code is off by half a unit of 1 / 127 of the largest of 32 elements.
    assert np.abs(got - expected).max() < 1.5e-2 * np.abs(expected).max()


@pytest.mark.usefixtures("many_cores")
@settings(max_examples=12, deadline=None)
@given(
    chunks=st.lists(st.integers(1, 64), min_size=1, max_size=5),
    threads=st.sampled_from([1, 2, 3, 7]),
    window=st.sampled_from([None, 40, 300]),
    length=st.integers(1, LENGTH),
    cache_type=st.sampled_from(CACHE_TYPES),
)
def test_logits_do_not_depend_on_chunks_or_threads(
    chunks: list[int], threads: int, window: int | None, length: int, cache_type: str
) -> None:
    plan = fuse(attention_plan(window=window, head_width=WIDTH_OF_Q8))
    checkpoint = SyntheticCheckpoint(plan)
    _, plain = both_executors(plan, checkpoint, threads=1, cache_type=cache_type)
    _, other = both_executors(plan, checkpoint, threads=threads, cache_type=cache_type)
    sequence = tokens(length)
    # The first rows one by one, where most can go wrong; the rest in large chunks.
    expected = run(plain, sequence, [1] * 40 + [37])
    np.testing.assert_array_equal(run(other, sequence, chunks), expected)


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_logits_do_not_depend_on_the_other_sequences_of_a_step(cache_type: str) -> None:
    plan = fuse(attention_plan(head_width=WIDTH_OF_Q8))
    checkpoint = SyntheticCheckpoint(plan, {"q": "F16", "o": "Q8_0"})
    _, alone = both_executors(plan, checkpoint, cache_type=cache_type)
    _, together = both_executors(plan, checkpoint, cache_type=cache_type)
    sequences = [tokens(count, seed=count) for count in (300, 41, 280, 7)]
    expected = [run(alone, sequence, [64], slot) for slot, sequence in enumerate(sequences)]
    position = 0
    while position < 300:
        parts = [
            sequence_rows(sequence[position : position + 16], position, slot)
            for slot, sequence in enumerate(sequences)
            if position < len(sequence)
        ]
        logits = together.step(joined_rows(parts))
        first = 0
        for part in parts:
            slot, count = int(part.slots[0]), len(part.tokens)
            np.testing.assert_array_equal(
                logits[first : first + count], expected[slot][position : position + count]
            )
            first += count
        position += 16


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_rejected_rows_leave_no_trace(cache_type: str) -> None:
    plan = fuse(attention_plan(head_width=WIDTH_OF_Q8))
    checkpoint = SyntheticCheckpoint(plan)
    _, native = both_executors(plan, checkpoint, cache_type=cache_type)
    sequence = tokens(120)
    expected = run(native, sequence, [1])
    for position in range(0, 120, 3):
        right = sequence[position : position + 3]
        wrong = [(token + 1) % VOCAB for token in tokens(5, seed=position)]
        native.step(sequence_rows(right[:1] + wrong, position, slot=1))
        got = native.step(sequence_rows(right, position, slot=1))
        np.testing.assert_array_equal(got, expected[position : position + 3])


def test_a_q8_0_cache_needs_whole_scales() -> None:
    plan = fuse(attention_plan(head_width=48))
    with pytest.raises(UnsupportedModelError, match="multiple of 32, not 48"):
        both_executors(plan, SyntheticCheckpoint(plan), cache_type="q8_0")


def test_rows_that_break_the_rules_are_refused() -> None:
    plan = fuse(attention_plan())
    _, native = both_executors(plan, SyntheticCheckpoint(plan))
    good = sequence_rows([1, 2, 3])
    for field, value in (
        ("tokens", [1, 2, VOCAB]),
        ("tokens", [1, 2, -1]),
        ("positions", [0, 1, 3]),
        ("positions", [-1, 0, 1]),
        ("slots", [0, 1, 0]),
        ("slots", [4, 4, 4]),
    ):
        rows = sequence_rows([1, 2, 3])
        setattr(rows, field, np.array(value, np.int32))
        with pytest.raises(ValueError, match=r"\[step\]"):
            native.step(rows)
    good.block_tables = np.full_like(good.block_tables, 10_000)
    with pytest.raises(ValueError, match="block id"):
        native.step(good)


def test_keys_that_are_values_too_match_the_reference() -> None:
    step = Tracer()
    rotary = Rotary(tuple(1.0 / n for n in range(1, 9)), interleaved=False)
    x = step.embed(Weight("table", 64, 32))
    query, key = (step.linear(x, Weight(name, 32, 32)) for name in ("q", "k"))
    turned = (step.rope(each, rotary, heads=2) for each in (query, key))
    attended = step.attend(*turned, key, heads=2, kv_heads=2, head_width=16, scale=0.25)
    step.logits(attended, Weight("output", 64, 32))
    plan = fuse(step.plan())
    reference, native = both_executors(plan, SyntheticCheckpoint(plan))
    rows = sequence_rows(list(range(20)))
    expected = reference.step(rows)
    assert np.abs(native.step(rows) - expected).max() < 1e-3 * np.abs(expected).max()
