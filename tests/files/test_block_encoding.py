from collections.abc import Callable

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize

from nextn.files.block_encoding import IQ4_NL, encode_iq4_nl, encode_q8_0
from nextn.files.block_formats import IQ4_VALUES, decode

Encoder = Callable[[np.ndarray], np.ndarray]


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_q8_0_is_that_of_the_gguf_package(scale: float) -> None:
    rng = np.random.default_rng(2)
    values = (rng.standard_normal((40, 96)) * scale).astype(np.float32)
    values[3] = 0.0
    values[4, :32] = np.arange(32) - 16  # halves between two codes
    expected = quantize(values, GGMLQuantizationType.Q8_0)
    assert encode_q8_0(values).tobytes() == expected.tobytes()


def squared_error(values: np.ndarray, rounded: np.ndarray) -> float:
    return float(((values - rounded) ** 2).sum())


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_iq4_nl_is_about_as_good_as_any_scale_allows(scale: float) -> None:
    values = (np.random.default_rng(3).standard_normal((20, 64)) * scale).astype(np.float32)
    found = squared_error(values, decode(IQ4_NL, encode_iq4_nl(values)))
    best = 0.0
    for block in values.reshape(-1, 32):
        largest = np.abs(block).max()
        tried = np.concatenate([sign * np.linspace(0.5, 1.5, 400) for sign in (-1, 1)])
        grids = tried[:, None] * (largest / 113) * IQ4_VALUES
        nearest = np.abs(block[None, :, None] - grids[:, None, :]).min(axis=2)
        best += float((nearest**2).sum(axis=1).min())
    assert found < 1.03 * best


def test_iq4_nl_keeps_what_it_can_hold_exactly() -> None:
    codes = np.random.default_rng(4).integers(0, 16, (30, 32))
    codes[:, 5] = 0  # the largest value
    values = (IQ4_VALUES[codes] * np.float32(2**-6)).astype(np.float32)
    values[7] = 0.0
    np.testing.assert_allclose(decode(IQ4_NL, encode_iq4_nl(values)), values, rtol=1e-3)


@pytest.mark.parametrize("encode", [encode_q8_0, encode_iq4_nl])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e7])
def test_what_the_format_cannot_hold_is_refused(encode: Encoder, bad: float) -> None:
    values = np.zeros((1, 32), np.float32)
    values[0, 9] = bad
    with pytest.raises(ValueError, match="too large"):
        encode(values)


@pytest.mark.parametrize("encode", [encode_q8_0, encode_iq4_nl])
def test_half_blocks_are_refused(encode: Encoder) -> None:
    with pytest.raises(ValueError, match="not multiples of 32"):
        encode(np.zeros((1, 40), np.float32))
