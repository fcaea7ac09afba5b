"""Any shape that the checks let through: every row stays in its place, and memory is respected.

Under `fuzz/sanitised_tests.sh` each of these steps is watched for accesses outside of its buffers;
set NEXTN_TEST_EXAMPLES to try more of them.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn import _native
from nextn.backends import BLOCK_TOKENS, Rows, check_rows
from nextn.backends.cpu import CpuExecutor
from nextn.plan import NormWeight, Plan, Rotary, Tracer, Weight, fuse
from tests.backends.synthetic import TYPE_BY_NAME, SyntheticCheckpoint

MAX_ROWS, SLOTS, BLOCKS = 40, 4, 10
EXAMPLES = int(os.environ.get("NEXTN_TEST_EXAMPLES", "40"))


@st.composite
def models(draw: st.DrawFn) -> tuple[Plan, SyntheticCheckpoint]:
    """A model of one block whose widths fill no vector, tile or block evenly, if they need not."""
    matrices = draw(st.sampled_from(sorted(TYPE_BY_NAME)))
    elements = TYPE_BY_NAME[matrices].elements
    hidden = elements * draw(st.sampled_from([1, 2, 3, 5] if elements < 256 else [1, 2]))
    hidden = hidden if elements > 1 else draw(st.integers(1, 70))
    feed_forward = elements * draw(st.integers(1, 3)) if elements > 1 else draw(st.integers(1, 70))
    vocab = draw(st.integers(1, 50))
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.sampled_from([1, 2, 3, 5, 16]))
    width = 16 * draw(st.sampled_from([1, 2, 3, 5, 32]))
    pairs = draw(st.sampled_from([1, width // 4 + 1, width // 2]))
    rotary = Rotary((1.0,) * pairs, draw(st.booleans()), 1.0)
    step = Tracer()
    x = step.embed(Weight("table", vocab, hidden), scale=draw(st.sampled_from([1.0, 1e30, 0.0])))
    h = step.norm(x, NormWeight(Weight("norm", 1, hidden), 1e-5))
    query, key, value = (
        step.linear(h, Weight(name, n * width, hidden), Weight(f"{name}_bias", 1, n * width))
        for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads))
    )
    if draw(st.booleans()):
        query = step.head_norm(query, NormWeight(Weight("qn", 1, width), 0.0), heads=heads)
    attended = step.attend(
        step.rope(query, rotary, heads=heads),
        step.rope(key, rotary, heads=kv_heads),
        value,
        heads=heads,
        kv_heads=kv_heads,
        head_width=width,
        scale=draw(st.sampled_from([0.1, 1e20])),
        window=draw(st.sampled_from([None, 1, BLOCK_TOKENS, 257, (1 << 31) - 1])),
    )
    x = step.add(x, step.linear(attended, Weight("o", hidden, heads * width)))
    gate, up = (step.linear(x, Weight(name, feed_forward, hidden)) for name in ("gate", "up"))
    activated = step.activate(gate, up, draw(st.sampled_from(["silu", "gelu"])))
    x = step.add(x, step.linear(activated, Weight("down", hidden, feed_forward)))
    step.logits(x, Weight("output", vocab, hidden))
    plan = fuse(step.plan()) if draw(st.booleans()) else step.plan()
    types = dict.fromkeys(("table", "q", "k", "v", "gate", "up", "down", "output"), matrices)
    return plan, SyntheticCheckpoint(plan, types, draw(st.integers(0, 99)))


@st.composite
def steps(draw: st.DrawFn, vocab: int) -> Rows:
    """Rows of some slots, anywhere up to the last position of their tables."""
    last = BLOCKS * BLOCK_TOKENS
    slots = draw(st.lists(st.integers(0, SLOTS - 1), min_size=1, max_size=SLOTS, unique=True))
    counts = [draw(st.sampled_from([1, 1, 2, 3, 8, 9, MAX_ROWS // len(slots)])) for _ in slots]
    positions: list[int] = []
    for count in counts:
        start = draw(st.sampled_from([0, 1, 31, 32, 255, 256, last // 2, last - count]))
        positions += range(start, start + count)
    total = len(positions)
    edges = [0, vocab - 1]
    wants = draw(st.lists(st.booleans(), min_size=total, max_size=total))
    return Rows(
        np.array([edges[i % 2] for i in range(total)], np.int32),
        np.array(positions, np.int32),
        np.repeat(slots, counts).astype(np.int32),
        np.array(wants),
        np.arange(SLOTS * BLOCKS, dtype=np.int32)[::-1].reshape(SLOTS, BLOCKS).copy(),
    )


@pytest.mark.parametrize("kernels", _native.available_kernels())
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_any_checked_step_of_any_model_gives_the_same_with_one_thread_and_two(
    kernels: str, data: st.DataObject
) -> None:
    plan, checkpoint = data.draw(models())
    executors = [
        CpuExecutor(
            checkpoint,  # type: ignore[arg-type]
            plan,
            threads=threads,
            context_length=BLOCKS * BLOCK_TOKENS,
            block_count=SLOTS * BLOCKS,
            max_rows=MAX_ROWS,
            kernels=kernels,
        )
        for threads in (1, min(2, os.cpu_count() or 1))
    ]
    for _ in range(3):
        rows = data.draw(steps(plan.vocab_size))
        one, two = (executor.step(rows) for executor in executors)
        assert one.shape == (rows.wants_logits.sum(), plan.vocab_size)
        np.testing.assert_array_equal(one, two)


small = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-2, 40)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(small, small, small, st.booleans()), max_size=5),
    tables=st.lists(st.lists(small, min_size=2, max_size=2), min_size=0, max_size=3),
)
def test_rows_that_pass_the_check_name_only_memory_that_is_there(
    rows: list[tuple[int, int, int, bool]], tables: list[list[int]]
) -> None:
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    given_rows = Rows(
        *(np.array(column, np.int32) for column in columns[:3]),
        np.array(columns[3], np.bool_),
        np.array(tables, np.int32).reshape(-1, 2),
    )
    try:
        check_rows(given_rows, SimpleNamespace(max_rows=4, block_count=8, vocab_size=16))
    except ValueError:
        return
    assert 0 < len(rows) <= 4
    for token, position, slot, _ in rows:
        assert 0 <= token < 16
        assert 0 <= slot < len(tables)
        for before in range(position + 1):
            assert 0 <= tables[slot][before // BLOCK_TOKENS] < 8
