from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn import _native
from nextn.bench import Limits, StepCosts, Work
from nextn.bench.limits import peak_products, read_bandwidth
from nextn.files import open_checkpoint
from nextn.models import load_model_plan
from nextn.plan import fuse
from tests.support.tiny_gguf import write_tiny_model


def test_costs_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    weights = write_tiny_model(path, "gemma3", layers=6, types="Q8_0", sliding_window=32)
    with open_checkpoint(path) as checkpoint:
        costs = StepCosts.of(checkpoint, fuse(load_model_plan(checkpoint)))
    matrices = {name: w.size for name, w in weights.items() if w.ndim == 2}
    output = matrices.pop("token_embd.weight")  # tied
    assert costs.products == sum(matrices.values())
    assert costs.weights == sum(matrices.values()) * 34 // 32
    assert (costs.output_products, costs.output_weights) == (output, output * 34 // 32)
    key_and_value = 2 * 2 * 16 * 2.0
    assert costs.attention == ((key_and_value, 32),) * 5 + ((key_and_value, None),)


def test_a_step_reads_weights_once_and_each_cache_as_far_as_it_is_seen() -> None:
    costs = StepCosts(1000, 2000, 100, 200, ((4.0, None), (4.0, 8)))
    assert costs.step(1, 0, logits=0) == Work(1000 + 4 + 4, 2000)
    assert costs.step(3, 10, logits=2) == Work(1100 + 4 * 13 + 4 * 10, 3 * 2000 + 2 * 200)
    together = costs.step(1, 10, sequences=5, logits=1)
    assert together == Work(1100 + 5 * (4 * 11 + 4 * 8), 5 * 2200)


def test_prompts_and_texts_are_the_sum_of_their_steps() -> None:
    costs = StepCosts(1000, 2000, 100, 200, ((4.0, None),))
    steps = [costs.step(16, 5, logits=0), costs.step(4, 21, logits=1)]
    assert costs.prompt(20, 5, 16) == steps[0] + steps[1]
    assert costs.prompt(16, 5, 16) == costs.step(16, 5, logits=1)
    steps = [costs.step(1, 5 + n, sequences=2, logits=1) for n in range(2)]
    assert costs.decode(2, 5, 2) == steps[0] + steps[1]


def test_the_limit_is_the_slower_of_reading_and_multiplying() -> None:
    limits = Limits(bandwidth=10.0, products=100.0, threads=1)
    assert limits.seconds(Work(50, 100)) == 5.0
    assert limits.seconds(Work(50, 1000)) == 10.0


@pytest.mark.parametrize("kernels", _native.available_kernels())
def test_the_machine_is_measured_with_every_kernel_set(kernels: str) -> None:
    assert read_bandwidth(1, 1 << 20, kernels) > 0
    assert len(_native.time_dots(2400, 2, 3, kernels)) == 3


def test_the_peak_is_a_number_of_products_per_second() -> None:
    assert peak_products(1) > 0


def test_impossible_measurements_are_refused() -> None:
    data = np.ones(1000, np.uint8)  # the last 40 bytes are no whole vector
    assert len(_native.time_reads(data, 2, 3, "scalar")) == 3
    for threads, passes in ((0, 1), (-1, 1), (1 << 20, 1), (1, 0)):
        with pytest.raises(ValueError, match="impossible number of threads or passes"):
            _native.time_reads(data, threads, passes, "scalar")
    with pytest.raises(ValueError, match="cannot run"):
        _native.time_dots(100, 1, 1, "sse9")
