from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from nextn.files.block_encoding import encode_q8_0


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_q8_0_is_that_of_the_gguf_package(scale: float) -> None:
    rng = np.random.default_rng(2)
    values = (rng.standard_normal((40, 96)) * scale).astype(np.float32)
    values[3] = 0.0
    values[4, :32] = np.arange(32) - 16  # halves between two codes
    expected = quantize(values, GGMLQuantizationType.Q8_0)
    assert encode_q8_0(values).tobytes() == expected.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e7])
def test_q8_0_refuses_what_it_cannot_hold(bad: float) -> None:
    values = np.zeros((1, 32), np.float32)
    values[0, 9] = bad
    with pytest.raises(ValueError, match="too large"):
        encode_q8_0(values)


def test_q8_0_refuses_half_blocks() -> None:
    with pytest.raises(ValueError, match="not multiples of 32"):
        encode_q8_0(np.zeros((1, 40), np.float32))
