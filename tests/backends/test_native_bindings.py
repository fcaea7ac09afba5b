"""The native module refuses impossible arguments by itself, whatever Python checked before."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn import _native
from nextn.backends import Rows, check_rows

F32, Q4_0 = 0, 2
WIDTH, VOCAB, ROWS, BLOCKS = 32, 40, 4, 2


def unfinished() -> _native.Executor:
    """Buffers 0 and 1 of 32 columns, buffer 2 of 64; matrix 0 [40, 32]; vectors 0 [32], 1 [16]."""
    executor = _native.Executor(1, ROWS, BLOCKS, "scalar", "f16")
    for width in (WIDTH, WIDTH, 2 * WIDTH):
        executor.add_buffer(width)
    executor.add_matrix(F32, VOCAB, WIDTH, np.zeros(VOCAB * WIDTH * 4, np.uint8), False)
    executor.add_vector(np.ones(WIDTH, np.float32))
    executor.add_vector(np.ones(16, np.float32))
    executor.add_rotary(np.ones(16), False, 1.0)
    executor.add_cache_layer(1, WIDTH)
    executor.add_hidden_layer(WIDTH)
    return executor


def table() -> np.ndarray:
    return np.zeros(VOCAB * WIDTH * 4, np.uint8)


IMPOSSIBLE: dict[str, Callable[[_native.Executor], Any]] = {
    "buffer without width": lambda e: e.add_buffer(0),
    "buffer of negative width": lambda e: e.add_buffer(-32),
    "buffer of 2**28 columns": lambda e: e.add_buffer(1 << 28),
    "matrix of an unknown type": lambda e: e.add_matrix(4, 1, 32, table(), False),
    "matrix of half a block": lambda e: e.add_matrix(Q4_0, 1, 16, np.zeros(9, np.uint8), False),
    "matrix with too few bytes": lambda e: e.add_matrix(F32, VOCAB + 1, WIDTH, table(), False),
    "matrix of negative rows": lambda e: e.add_matrix(F32, -1, WIDTH, table(), False),
    "matrix whose bytes wrap around": lambda e: e.add_matrix(F32, 1 << 28, 1 << 30, table(), False),
    "cache of no heads": lambda e: e.add_cache_layer(0, 16),
    "cache of too many heads": lambda e: e.add_cache_layer(1 << 30, 512),
    "cache of heads that are too wide": lambda e: e.add_cache_layer(1, 528),
    "cache of odd heads": lambda e: e.add_cache_layer(1, 24),
    "embedding of another width": lambda e: e.embed(2, F32, VOCAB, WIDTH, table(), 1.0),
    "embedding with too few bytes": lambda e: e.embed(0, F32, VOCAB + 1, WIDTH, table(), 1.0),
    "embedding into no buffer": lambda e: e.embed(3, F32, VOCAB, WIDTH, table(), 1.0),
    "norm with a shorter weight": lambda e: e.norm(0, 1, 1, 1e-6, -1),
    "norm without a weight": lambda e: e.norm(0, 1, -1, 1e-6, -1),
    "norm with a missing weight": lambda e: e.norm(0, 1, 2, 1e-6, -1),
    "norm with a wider residual": lambda e: e.norm(0, 1, 0, 1e-6, 2),
    "head norm of no heads": lambda e: e.head_norm(0, 1, 1, 1e-6, 0),
    "head norm of 2**28 heads": lambda e: e.head_norm(0, 1, 1, 1e-6, 1 << 28),
    "head norm with a longer weight": lambda e: e.head_norm(0, 1, 0, 1e-6, 2),
    "rotation into another width": lambda e: e.rope(0, 2, 0, 1),
    "rotation of heads that are too narrow": lambda e: e.rope(0, 1, 0, 2),
    "rotation without frequencies": lambda e: e.rope(0, 1, 1, 1),
    "product with a shorter bias": lambda e: e.linear([2], 0, [0], [1.0], [1], -1, 0, False, 0, -1),
    "product into another width": lambda e: e.linear([1], 0, [0], [1.0], [-1], -1, 0, False, 0, -1),
    "product of a missing matrix": lambda e: e.linear(
        [1], 0, [-1], [1.0], [-1], -1, 0, False, 0, -1
    ),
    "product with half a gate": lambda e: e.linear([1], 0, [0], [1.0], [-1], -1, 0, False, 1, -1),
    "product with an unknown activation": lambda e: e.linear(
        [1], 0, [0, 0], [1.0, 1.0], [-1, -1], -1, 0, False, 3, -1
    ),
    "unknown activation": lambda e: e.activate(0, 0, 1, 0),
    "activation of different widths": lambda e: e.activate(0, 0, 2, 1),
    "sum of different widths": lambda e: e.add(0, 1, 2),
    "attention with too many heads": lambda e: e.attend(0, 0, 1, 1, 0, 17, 1, 0, -1, -1, 0, -1),
    "attention with a longer norm": lambda e: e.attend(0, 0, 1, 1, 0, 1, 1, 0, 1, -1, 0, -1),
    "attention in one buffer": lambda e: e.attend(0, 0, 0, 1, 0, 1, 1, 0, 0, -1, 0, -1),
    "attention without a cache": lambda e: e.attend(0, 0, 1, 1, 1, 1, 1, 0, -1, -1, 0, -1),
    "attention over a wider value": lambda e: e.attend(0, 0, 1, 2, 0, 1, 1, 0, -1, -1, 0, -1),
    "joint of other widths": lambda e: e.concat(2, 0, 2),
    "joint into one of the two": lambda e: e.concat(2, 2, 0),
    "hidden layer without width": lambda e: e.add_hidden_layer(0),
    "hidden layer of 2**28 columns": lambda e: e.add_hidden_layer(1 << 28),
    "hidden state of another width": lambda e: e.store_hidden(2, 0, False),
    "hidden state without a layer": lambda e: e.store_hidden(0, 1, False),
    "hidden state into another width": lambda e: e.load_hidden(2, 0),
    "hidden state of a negative layer": lambda e: e.load_hidden(0, -1),
    "head without a vocabulary": lambda e: e.begin_head(0, None),
    "head with too few ids": lambda e: e.begin_head(3, np.zeros(2, np.int32)),
    "logits of another width": lambda e: e.logits(2, 0, 1.0, -1, 0),
    "logits with a shorter norm": lambda e: e.logits(0, 0, 1.0, 1, 0),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_an_impossible_operation_is_refused(name: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        IMPOSSIBLE[name](unfinished())


def test_an_embedding_is_never_copied() -> None:
    every_other = np.zeros((VOCAB * WIDTH * 4, 2), np.uint8)[:, 0]
    with pytest.raises(TypeError, match="incompatible"):
        unfinished().embed(0, F32, VOCAB, WIDTH, every_other, 1.0)


@pytest.mark.parametrize(
    "limits", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (1, -1, 1), (1 << 20, 1, 1)]
)
def test_impossible_limits_are_refused(limits: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="limits"):
        _native.Executor(*limits, "scalar", "f16")


def test_a_cache_beyond_the_address_space_is_out_of_memory() -> None:
    executor = _native.Executor(1, 1, (1 << 31) - 1, "scalar", "f16")
    for _ in range(64):
        executor.add_cache_layer((1 << 19) - 1, 512)
    with pytest.raises(MemoryError):
        executor.finish()


def step(executor: _native.Executor, **changes: Any) -> np.ndarray:
    arguments: dict[str, Any] = {
        "tokens": np.zeros(2, np.int32),
        "positions": np.arange(2, dtype=np.int32),
        "slots": np.zeros(2, np.int32),
        "wants_logits": np.array([False, True]),
        "block_tables": np.zeros((1, 1), np.int32),
        "vocab_size": VOCAB,
    }
    return executor.step(**{**arguments, **changes})


def finished() -> _native.Executor:
    executor = unfinished()
    executor.embed(0, F32, VOCAB, WIDTH, table(), 1.0)
    executor.logits(0, 0, 1.0, -1, 0)
    executor.finish()
    return executor


def test_the_order_of_building_and_stepping_is_enforced() -> None:
    executor = unfinished()
    with pytest.raises(ValueError, match="vocabulary is smaller"):
        step(executor)
    executor = finished()
    assert step(executor).shape == (1, VOCAB)
    with pytest.raises(RuntimeError, match="after the last one"):
        executor.add(0, 0, 1)
    with pytest.raises(RuntimeError, match="twice"):
        executor.finish()


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": np.zeros(0, np.int32)},
        {"tokens": np.zeros(ROWS + 1, np.int32)},
        {"tokens": np.zeros(2, np.int64)},
        {"tokens": np.zeros((2, 1), np.int32)},
        {"positions": np.zeros(1, np.int32)},
        {"positions": np.zeros(2)},
        {"slots": np.zeros(3, np.int32)},
        {"slots": np.zeros(4, np.int32)[::2]},
        {"wants_logits": np.ones(1, np.bool_)},
        {"wants_logits": np.full(2, 2, np.uint8)},
        {"block_tables": np.zeros(1, np.int32)},
        {"vocab_size": VOCAB + 16},
        {"vocab_size": -1},
    ],
    ids=str,
)
def test_arrays_of_a_step_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        step(finished(), **changes)


def headed() -> _native.Executor:
    executor = unfinished()
    executor.embed(0, F32, VOCAB, WIDTH, table(), 1.0)
    executor.store_hidden(0, 0, False)
    executor.logits(0, 0, 1.0, -1, 0)
    executor.begin_head(VOCAB, None)
    executor.load_hidden(0, 0)
    executor.logits(0, 0, 1.0, -1, 0)
    executor.finish()
    return executor


def draft(executor: _native.Executor, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "tokens": np.zeros(2, np.int32),
        "positions": np.arange(2, dtype=np.int32),
        "slots": np.zeros(2, np.int32),
        "wants_logits": np.array([False, True]),
        "block_tables": np.zeros((1, 1), np.int32),
        "vocab_size": VOCAB,
        "depths": np.array([3], np.int32),
        "temperature": np.zeros(1),
        "top_k": np.zeros(1, np.int32),
        "top_p": np.ones(1),
        "min_p": np.zeros(1),
        "seeds": np.zeros(1, np.uint64),
        "least": np.zeros(1),
        "chances": np.ones((1, 1, 1), np.float32),
        "out_tokens": np.zeros((1, 3), np.int32),
        "out_chances": np.zeros((1, 3), np.float32),
        "out_probabilities": np.zeros((1, 3), np.float32),
        "out_counts": np.zeros(1, np.int32),
        **changes,
    }
    executor.draft(**arguments)
    return arguments


def test_a_head_is_built_after_the_trunk_and_once() -> None:
    executor = unfinished()
    executor.begin_head(VOCAB, None)
    with pytest.raises(RuntimeError, match="twice"):
        executor.begin_head(VOCAB, None)
    with pytest.raises(RuntimeError, match="fewer logits"):
        executor.finish()
    with pytest.raises(RuntimeError, match="late"):
        finished().begin_head(VOCAB, None)
    with pytest.raises(RuntimeError, match="there is no head"):
        draft(finished())
    assert draft(headed())["out_counts"].tolist() == [3]


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": np.zeros(0, np.int32)},
        {"tokens": np.zeros(2, np.int64)},
        {"slots": np.zeros(3, np.int32)},
        {"wants_logits": np.ones(2, np.bool_)},
        {"wants_logits": np.zeros(2, np.bool_)},
        {"depths": np.array([4], np.int32)},
        {"depths": np.array([0], np.int32)},
        {"depths": np.array([1, 1], np.int32)},
        {"top_k": np.array([-1], np.int32)},
        {"temperature": np.full(1, np.inf)},
        {"vocab_size": 0},
        {"positions": np.array([30, 31], np.int32)},
        {"temperature": np.full(1, -1.0)},
        {"temperature": np.zeros(1, np.float32)},
        {"seeds": np.zeros(1, np.int64)},
        {"chances": np.ones((1, 0, 1), np.float32)},
        {"chances": np.ones((2, 1, 1), np.float32)},
        {"out_tokens": np.zeros((1, 2), np.int32)},
        {"out_tokens": np.zeros((2, 3), np.int32)},
        {"out_chances": np.zeros((1, 2), np.float32)},
        {"out_probabilities": np.zeros((0, 3), np.float32)},
        {"out_counts": np.zeros(2, np.int32)},
    ],
    ids=str,
)
def test_arrays_of_a_draft_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        draft(headed(), **changes)


near = st.integers(-1, 2)
edges = st.sampled_from([-1, 0, 1, 31, 32, 33, 63, 64, 2**31 - 1])


@settings(max_examples=500, deadline=None)
@given(
    runs=st.lists(st.tuples(near, edges, st.integers(1, 2), near), max_size=3),
    broken=st.none() | st.tuples(st.integers(0, 3), st.sampled_from([-1, 0, 1, VOCAB, 2**31 - 1])),
    tables=st.lists(
        st.lists(st.sampled_from([-1, 0, 1, BLOCKS, 2**31 - 1]), min_size=2, max_size=2), max_size=3
    ),
)
def test_rows_are_refused_exactly_where_python_refuses_them(
    runs: list[tuple[int, int, int, int]],
    broken: tuple[int, int] | None,
    tables: list[list[int]],
) -> None:
    slots, positions, tokens = [], [], []
    for slot, position, count, token in runs:
        slots += [slot] * count
        positions += [min(position + i, 2**31 - 1) for i in range(count)]
        tokens += [token] * count
    if broken is not None and broken[0] < len(tokens):
        tokens[broken[0]] = broken[1]
    arrays = {
        "tokens": np.array(tokens, np.int32),
        "positions": np.array(positions, np.int32),
        "slots": np.array(slots, np.int32),
        "wants_logits": np.zeros(len(tokens), np.bool_),
        "block_tables": np.array(tables, np.int32).reshape(-1, 2),
    }
    limits = SimpleNamespace(max_rows=ROWS, block_count=BLOCKS, vocab_size=VOCAB)
    executor = finished()
    try:
        check_rows(Rows(**arrays), limits)
    except ValueError:
        with pytest.raises(ValueError, match=r"\[step\]"):
            step(executor, **arrays)
    else:
        step(executor, **arrays)
