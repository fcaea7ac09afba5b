from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nextn import _native
from nextn.plan import NormWeight, Plan, Tracer, Weight, fuse
from tests.backends.synthetic import (
    TYPE_BY_NAME,
    SyntheticCheckpoint,
    both_executors,
    sequence_rows,
)

KERNELS = _native.available_kernels()
QUANTISED = [name for name, kind in TYPE_BY_NAME.items() if kind.elements > 1]
FLOATS = ["F32", "F16", "BF16"]
COLUMNS = 256
VOCAB = 37  # not whole tiles


def matrix_plan() -> Plan:
    """Embedding, then the output matrix: a product of each row's own vector."""
    step = Tracer()
    step.logits(step.embed(Weight("table", VOCAB, COLUMNS)), Weight("output", VOCAB, COLUMNS))
    return step.plan()


def product_plan() -> Plan:
    """The same product inside the model: its result leaves through an identity matrix."""
    step = Tracer()
    product = step.linear(
        step.embed(Weight("table", VOCAB, COLUMNS)), Weight("output", VOCAB, COLUMNS)
    )
    step.logits(product, Weight("identity", VOCAB, VOCAB))
    return step.plan()


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", FLOATS)
def test_float_weights_match_the_reference_to_rounding(name: str, kernels: str) -> None:
    plan = matrix_plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    reference, native = both_executors(plan, checkpoint, kernels=kernels)
    rows = sequence_rows(list(range(VOCAB)))
    assert relative_error(native.step(rows), reference.step(rows)) < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 13])
@pytest.mark.parametrize("place", ["logits", "linear"])
def test_quantised_products_are_exact_for_exact_activations(
    name: str, place: str, count: int, kernels: str
) -> None:
    # Rows that are already whole multiples of their largest element over 127 quantise without loss:
    # what is left is the rounding of float32 sums.
    plan = matrix_plan() if place == "logits" else product_plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    rng = np.random.default_rng(count)
    codes = rng.integers(-126, 127, (VOCAB, COLUMNS)).astype(np.float32)
    codes[:, ::16] = 127.0
    checkpoint.tensors["table"].data = (codes / 64).view(np.uint8).reshape(-1)
    if place == "linear":
        identity = np.eye(VOCAB, dtype=np.float32)
        checkpoint.tensors["identity"].data = identity.view(np.uint8).reshape(-1)
    reference, native = both_executors(plan, checkpoint, kernels=kernels)
    rows = sequence_rows(rng.integers(0, VOCAB, count).tolist())
    assert relative_error(native.step(rows), reference.step(rows)) < 3e-6


@pytest.mark.parametrize("name", QUANTISED)
def test_quantising_the_activations_costs_less_than_a_hundredth(name: str) -> None:
    plan = matrix_plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    reference, native = both_executors(plan, checkpoint)
    rows = sequence_rows(list(range(VOCAB)))
    got, expected = native.step(rows), reference.step(rows)
    error = np.sqrt(np.mean(np.square(got - expected)) / np.mean(np.square(expected)))
    assert error < 0.01


@pytest.mark.parametrize("name", QUANTISED)
def test_every_instruction_set_gives_the_same_result(name: str) -> None:
    plan = matrix_plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    rows = sequence_rows([3, 1, 4, 1, 5])
    results = [
        both_executors(plan, checkpoint, kernels=kernels)[1].step(rows).copy()
        for kernels in KERNELS
    ]
    for result in results[1:]:
        assert relative_error(result, results[0]) < 2e-6


@pytest.mark.parametrize("name", QUANTISED)
def test_sets_with_one_rounding_for_a_product_and_a_sum_agree_in_every_bit(name: str) -> None:
    plan = matrix_plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    rows = sequence_rows([3, 1, 4, 1, 5])
    results = [
        both_executors(plan, checkpoint, kernels=kernels)[1].step(rows).copy()
        for kernels in KERNELS
        if kernels != "scalar"
    ]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", list(TYPE_BY_NAME))
@pytest.mark.parametrize("place", ["logits", "linear"])
def test_a_row_is_the_same_in_every_bit_among_any_number_of_rows(
    name: str, place: str, kernels: str
) -> None:
    plan = matrix_plan() if place == "logits" else product_plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    _, native = both_executors(plan, checkpoint, kernels=kernels)
    alone = np.concatenate([native.step(sequence_rows([token])).copy() for token in range(8)])
    for count in range(2, 9):
        np.testing.assert_array_equal(native.step(sequence_rows(list(range(count)))), alone[:count])


@pytest.mark.parametrize("name", QUANTISED)
def test_packed_weights_are_hardly_larger_than_the_file(name: str) -> None:
    step = Tracer()
    step.logits(step.embed(Weight("table", 16, 2048)), Weight("output", 1024, 2048))
    plan = step.plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    layout_bytes = packed_bytes(plan, checkpoint)
    # What nextn.engine.memory reckons with.
    assert layout_bytes <= 1.06 * checkpoint.tensors["output"].data.nbytes


def packed_bytes(plan: Plan, checkpoint: SyntheticCheckpoint) -> int:
    """Bytes of all packed weights of a native executor."""
    _, native = both_executors(plan, checkpoint)
    return native._native.weight_bytes


@pytest.mark.parametrize("name", list(TYPE_BY_NAME))
def test_embedding_rows_are_those_of_the_definition(name: str) -> None:
    step = Tracer()
    step.logits(step.embed(Weight("table", VOCAB, COLUMNS), scale=3.5), Weight("eye", 256, 256))
    plan = step.plan()
    checkpoint = SyntheticCheckpoint(plan, {"table": name})
    checkpoint.tensors["eye"].data = np.eye(256, dtype=np.float32).view(np.uint8).reshape(-1)
    _, native = both_executors(plan, checkpoint)
    expected = checkpoint.tensors["table"].decode() * np.float32(3.5)
    got = native.step(sequence_rows(list(range(VOCAB))))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("fused", [True, False])
def test_bias_activation_residual_and_norms_match_the_reference(
    activation: str, fused: bool
) -> None:
    step = Tracer()
    x = step.embed(Weight("table", VOCAB, 80))
    h = step.norm(x, NormWeight(Weight("norm", 1, 80), 1e-5))
    gate = step.linear(h, Weight("gate", 112, 80), Weight("gate.bias", 1, 112))
    up = step.linear(h, Weight("up", 112, 80), Weight("up.bias", 1, 112))
    down = step.linear(step.activate(gate, up, activation), Weight("down", 80, 112))  # type: ignore[arg-type]
    x = step.add(x, down)
    x = step.add(step.norm(x, NormWeight(Weight("post", 1, 80), 1e-5)), x)
    step.logits(step.norm(x, NormWeight(Weight("last", 1, 80), 1e-5)), Weight("output", VOCAB, 80))
    plan = fuse(step.plan()) if fused else step.plan()
    reference, native = both_executors(plan, SyntheticCheckpoint(plan))
    rows = sequence_rows(list(range(20)))
    assert relative_error(native.step(rows), reference.step(rows)) < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("fused", [True, False])
def test_an_outlier_of_an_activation_spoils_sixteen_columns_only(fused: bool, kernels: str) -> None:
    # The gate is 1, so the product is silu(1) times the row: an outlier and small values. The
    # matrix below does not look at the outlier's own sixteen columns.
    step = Tracer()
    x = step.embed(Weight("table", 32, 32))
    gate = step.linear(x, Weight("gate", 32, 32), Weight("gate.bias", 1, 32))
    up = step.linear(x, Weight("up", 32, 32))
    down = step.linear(step.activate(gate, up, "silu"), Weight("down", 32, 32))
    step.logits(down, Weight("eye", 32, 32))
    plan = fuse(step.plan()) if fused else step.plan()
    checkpoint = SyntheticCheckpoint(plan, {"down": "Q8_0"})

    def fill(name: str, values: np.ndarray) -> None:
        checkpoint.tensors[name].data = values.astype(np.float32).view(np.uint8).reshape(-1)

    table = np.random.default_rng(0).standard_normal((32, 32))
    table[:, 5] = 10_000.0
    fill("table", table)
    fill("gate", np.zeros((32, 32)))
    fill("gate.bias", np.ones(32))
    fill("up", np.eye(32))
    fill("eye", np.eye(32))
    blocks = checkpoint.tensors["down"].data.reshape(32, 34).copy()
    blocks[:, 2:18] = 0
    checkpoint.tensors["down"].data = blocks.reshape(-1)
    reference, native = both_executors(plan, checkpoint, kernels=kernels)
    rows = sequence_rows(list(range(32)))
    assert relative_error(native.step(rows), reference.step(rows)) < 0.01


def scaled(weight: Weight) -> Weight:
    return replace(weight, scale=Weight(f"{weight.name}.scale", 1, 1))


def plan_with_scales(*, has_scales: bool, fused: bool) -> Plan:
    """Every place of a matrix: table, product with bias, gate and up, residual, logits."""
    place = scaled if has_scales else lambda weight: weight
    step = Tracer()
    x = step.embed(place(Weight("table", VOCAB, 80)), scale=3.0)
    x = step.linear(x, place(Weight("first", 80, 80)), Weight("first.bias", 1, 80))
    gate = step.linear(x, place(Weight("gate", 112, 80)), Weight("gate.bias", 1, 112))
    up = step.linear(x, place(Weight("up", 112, 80)))
    down = step.linear(step.activate(gate, up, "silu"), place(Weight("down", 80, 112)))
    step.logits(step.add(x, down), place(Weight("output", VOCAB, 80)))
    return fuse(step.plan()) if fused else step.plan()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("fused", [True, False])
def test_scales_of_matrices_match_the_reference(fused: bool, kernels: str) -> None:
    plan = plan_with_scales(has_scales=True, fused=fused)
    assert sum(weight.name.endswith(".scale") for weight in plan.weights) == 6
    reference, native = both_executors(plan, SyntheticCheckpoint(plan), kernels=kernels)
    rows = sequence_rows(list(range(20)))
    assert relative_error(native.step(rows), reference.step(rows)) < 1e-5


@pytest.mark.parametrize("fused", [True, False])
def test_a_scale_that_is_a_power_of_two_is_the_same_as_a_larger_matrix(fused: bool) -> None:
    with_scales = plan_with_scales(has_scales=True, fused=fused)
    checkpoint = SyntheticCheckpoint(with_scales)
    larger = SyntheticCheckpoint(with_scales)
    powers = {"table": 0.5, "first": 4.0, "gate": 2.0, "up": -8.0, "down": 0.25, "output": 16.0}
    for name, power in powers.items():
        scale = np.array([power], np.float32)
        checkpoint.tensors[f"{name}.scale"].data = scale.view(np.uint8)
        matrix = larger.tensors[name]
        matrix.data = (matrix.data.view(np.float32) * scale).view(np.uint8)
    rows = sequence_rows(list(range(20)))
    without = plan_with_scales(has_scales=False, fused=fused)
    for got, expected in zip(
        both_executors(with_scales, checkpoint), both_executors(without, larger), strict=True
    ):
        np.testing.assert_array_equal(got.step(rows), expected.step(rows))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("name", "first", "count", "factor"),
    [
        ("MXFP4", 0, 128, 2.0**20),
        ("MXFP4", 128, 125, 2.0**-20),
        ("NVFP4", 0, 256, 1.0),
    ],
)
def test_every_byte_of_a_scale_is_exact_in_the_kernels(
    name: str, first: int, count: int, factor: float, kernels: str
) -> None:
    # Each output has one scale in all of its blocks: from subnormal to the largest.
    step = Tracer()
    step.logits(step.embed(Weight("table", 8, 64)), Weight("output", count, 64))
    plan = step.plan()
    checkpoint = SyntheticCheckpoint(plan, {"output": name, "table": "F32"})
    rng = np.random.default_rng(0)
    table = rng.integers(-126, 127, (8, 64)).astype(np.float32)
    table[:, ::16] = 127.0
    checkpoint.tensors["table"].data = (table * np.float32(factor)).view(np.uint8).reshape(-1)
    kind = TYPE_BY_NAME[name]
    blocks = checkpoint.tensors["output"].data.reshape(count, -1, kind.bytes).copy()
    scales = blocks[:, :, : 1 if name == "MXFP4" else 4]
    scales[:] = np.arange(first, first + count, dtype=np.uint8).reshape(-1, 1, 1)
    checkpoint.tensors["output"].data = blocks.reshape(-1)
    reference, native = both_executors(plan, checkpoint, kernels=kernels)
    rows = sequence_rows(list(range(8)))
    got, expected = native.step(rows), reference.step(rows)
    largest = np.abs(expected).max(axis=0)
    assert np.isfinite(expected).all()
    assert (np.abs(got - expected) <= 1e-6 * largest).all()
