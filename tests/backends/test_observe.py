"""Observers: what they sum up, and that they change nothing."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nextn import _native
from nextn.backends import Chains
from nextn.backends.cpu import CpuExecutor
from nextn.backends.reference import ReferenceExecutor
from nextn.plan import Linear, Logits, NormWeight, Observe, Plan, Tracer, Weight, fuse, observe
from tests.backends.heads import BLOCKS, SLOTS, headed_model, rows_of
from tests.backends.synthetic import SyntheticCheckpoint, both_executors, sequence_rows
from tests.support.tiny_gguf import TinyHead

VOCAB, WIDTH, INNER = 40, 48, 80
EPSILON = 1e-5
TOKENS = [3, 9, 9, 31, 7, 0, 12]


def small_plan() -> Plan:
    """Two matrices that share a normed input, one after them, and the logits."""
    step = Tracer()
    x = step.embed(Weight("table", VOCAB, WIDTH))
    normed = step.norm(x, NormWeight(Weight("norm", 1, WIDTH), EPSILON))
    gate, up = (step.linear(normed, Weight(name, INNER, WIDTH)) for name in ("gate", "up"))
    down = step.linear(step.activate(gate, up, "silu"), Weight("down", WIDTH, INNER))
    step.logits(step.add(x, down), Weight("output", VOCAB, WIDTH))
    return step.plan()


def expected_squares(checkpoint: SyntheticCheckpoint) -> dict[str, np.ndarray]:
    """The sums by hand."""
    tensor = {name: each.decode().astype(np.float64) for name, each in checkpoint.tensors.items()}
    x = tensor["table"][TOKENS]
    normed = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + EPSILON) * tensor["norm"]
    gate, up = normed @ tensor["gate"].T, normed @ tensor["up"].T
    product = gate / (1 + np.exp(-gate)) * up
    last = x + product @ tensor["down"].T
    inputs = {"gate": normed, "up": normed, "down": product, "output": last}
    return {name: (values**2).sum(axis=0) for name, values in inputs.items()}


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kernels", _native.available_kernels())
def test_the_squares_of_all_inputs_are_summed_up(fused: bool, kernels: str) -> None:
    plan = observe(fuse(small_plan()) if fused else small_plan())
    checkpoint = SyntheticCheckpoint(plan)
    expected = expected_squares(checkpoint)
    for executor in both_executors(plan, checkpoint, kernels=kernels):
        assert all(seen.rows == 0 for seen in executor.read_observed().values())
        # In two steps; whether rows want logits makes no difference.
        rows = sequence_rows(TOKENS[:4])
        rows.wants_logits[:] = False
        executor.step(rows)
        executor.step(sequence_rows(TOKENS[4:], position=4))
        observed = executor.read_observed()
        assert observed.keys() == expected.keys()
        for name, seen in observed.items():
            assert seen.rows == len(TOKENS)
            np.testing.assert_allclose(seen.sums, expected[name], rtol=2e-4)
        executor.close()


def test_logits_are_the_same_bits_with_observers() -> None:
    plan = fuse(small_plan())
    checkpoint = SyntheticCheckpoint(plan)
    plain = both_executors(plan, checkpoint)
    watched = both_executors(observe(plan), checkpoint)
    for one, other in zip(plain, watched, strict=True):
        found = other.step(sequence_rows(TOKENS))
        np.testing.assert_array_equal(found, one.step(sequence_rows(TOKENS)))
        assert one.read_observed() == {}
        one.close()
        other.close()


def test_every_matrix_of_a_plan_has_an_observer_before_it() -> None:
    operations = observe(fuse(small_plan())).operations
    for before, operation in pairwise(operations):
        if isinstance(operation, Linear | Logits):
            assert isinstance(before, Observe)
            assert (before.x, before.norm) == (operation.x, operation.norm)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_executors_agree_on_a_model_with_a_head(tmp_path: Path, family: str) -> None:
    model, _ = headed_model(tmp_path / "m.gguf", family, TinyHead(own_output=True), types="F32")
    limits = {"context_length": BLOCKS * 32, "block_count": SLOTS * BLOCKS, "max_rows": 200}
    plans = observe(fuse(model.trunk)), observe(fuse(model.head))
    tokens = np.random.default_rng(5).integers(0, 320, 150).tolist()
    found = []
    for executor in (
        ReferenceExecutor(model.checkpoint, plans[0], head=plans[1], **limits),
        CpuExecutor(model.checkpoint, plans[0], head=plans[1], threads=1, **limits),
        CpuExecutor(model.checkpoint, plans[0], head=plans[1], threads=2, **limits),
    ):
        rows = rows_of([(0, 0, tokens)])
        executor.step(rows)
        executor.draft(rows, Chains.none())
        found.append(executor.read_observed())
        executor.close()
    reference, one, two = found
    assert "blk.2.nextn.eh_proj.weight" in reference
    assert "blk.2.nextn.shared_head_head.weight" in reference
    assert reference.keys() == one.keys() == two.keys()
    for name, expected in reference.items():
        assert expected.rows == one[name].rows == two[name].rows
        # Threads share columns, not rows: the sums do not depend on how many there are.
        np.testing.assert_array_equal(one[name].sums, two[name].sums)
        error = np.abs(one[name].sums - expected.sums).max() / expected.sums.max()
        assert error < 0.02, name
