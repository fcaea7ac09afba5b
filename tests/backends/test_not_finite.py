"""Numbers that are not finite: none in a file passes, and none of a row reaches another row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn import _native
from nextn.backends import create_executor
from nextn.errors import FileFormatError
from nextn.files import open_checkpoint
from nextn.plan import NormWeight, Plan, Tracer, Weight
from tests.backends.synthetic import (
    SyntheticCheckpoint,
    both_executors,
    joined_rows,
    sequence_rows,
)
from tests.support.tiny_gguf import write_tiny_model

KERNELS = _native.available_kernels()
# Format -> byte of a block, bytes, their value.
BAD = {
    "F32": (0, 4, 0x7F800000),
    "F16": (0, 2, 0x7E00),
    "Q8_0": (0, 2, 0x7C00),
    "Q2_K": (82, 2, 0x7E00),
    "Q3_K": (108, 2, 0xFC00),
    "IQ4_NL": (0, 2, 0x7C00),
    "IQ4_XS": (0, 2, 0x7E00),
    "MXFP4": (0, 1, 0xFF),
}


@pytest.mark.parametrize("name", ["token_embd.weight", "output.weight", "blk.1.ffn_up.weight"])
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_weight_is_refused_when_the_model_is_loaded(
    tmp_path: Path, kind: str, name: str
) -> None:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "qwen3", types=kind, hidden=256, head_dim=64, ffn=256)
    first, size, bits = BAD[kind]
    content = path.read_bytes()
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.tensors[name]
        at = content.index(tensor.data[:64].tobytes()) + 3 * tensor.block_type.bytes + first
    path.write_bytes(content[:at] + bits.to_bytes(size, "little") + content[at + size :])
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(FileFormatError, match=f"{name}: block 3 holds NaN or infinity"),
    ):
        create_executor(checkpoint, threads=2, context_length=32, block_count=1)


def plan_of(width: int) -> Plan:
    step = Tracer()
    x = step.embed(Weight("table", 8, width))
    h = step.norm(x, NormWeight(Weight("norm", 1, width), 1e-5))
    x = step.add(x, step.linear(h, Weight("matrix", width, width)))
    step.logits(step.norm(x, NormWeight(Weight("last", 1, width), 1e-5)), Weight("out", 37, width))
    return step.plan()


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("width", "kind"), [(40, "F32"), (48, "F16"), (64, "Q8_0"), (64, "MXFP4"), (256, "Q2_K")]
)
def test_a_row_that_is_not_finite_stays_alone(
    width: int, kind: str, value: float, kernels: str
) -> None:
    plan = plan_of(width)
    checkpoint = SyntheticCheckpoint(plan, {"matrix": kind, "out": kind})
    table = checkpoint.tensors["table"].decode().copy()
    table[7, 5] = value
    checkpoint.tensors["table"].data = table.view(np.uint8).reshape(-1)
    _, native = both_executors(plan, checkpoint, kernels=kernels)
    alone = native.step(sequence_rows([1, 2, 3])).copy()
    assert np.isfinite(alone).all()
    beside = native.step(joined_rows([sequence_rows([1, 7, 3]), sequence_rows([1, 2], slot=1)]))
    assert np.isnan(beside[1]).all()
    np.testing.assert_array_equal(beside[[0, 2, 3, 4]], alone[[0, 2, 0, 1]])
    np.testing.assert_array_equal(native.step(sequence_rows([1, 2, 3])), alone)
