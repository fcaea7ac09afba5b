"""Quantisers against the `gguf` package, ggml's own, naive ones, and the decoders."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nextn import _native
from nextn.files.block_encoding import (
    ENCODED_TYPES,
    F32,
    FLOAT_TYPES,
    IQ4_NL,
    Q4_0,
    BadValueError,
    encode,
    lattice_share,
    reencode,
    usable_importance,
)
from nextn.files.block_formats import BLOCK_TYPES, IQ4_VALUES, BlockType, decode
from tests.support.random_blocks import random_blocks

Floats = NDArray[np.float32]

COLUMNS = 512
TYPES = [pytest.param(block_type, id=name) for name, block_type in ENCODED_TYPES.items()]
QUANTISED = [pytest.param(t, id=n) for n, t in ENCODED_TYPES.items() if n not in FLOAT_TYPES]
EXACT = [
    pytest.param(ENCODED_TYPES[name], id=name)
    for name in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "BF16")
]
SEARCHED = [
    pytest.param(ENCODED_TYPES[name], id=name)
    for name in ("Q6_K", "Q5_K", "Q4_K", "IQ4_NL", "NVFP4", "MXFP4")
]
WEIGHTED = [pytest.param(t, id=n) for n, t in ENCODED_TYPES.items() if n not in ("Q8_0", "MXFP4")]
IMPORTANCE_USED = [p for p in WEIGHTED if p.id not in FLOAT_TYPES]


def values_like_weights(rows: int, seed: int = 0, scale: float = 0.02) -> Floats:
    """Heavier tails than a normal distribution's, as trained weights have."""
    rng = np.random.default_rng(seed)
    return (rng.standard_t(5, (rows, COLUMNS)) * scale).astype(np.float32)


def uneven_importance(seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return usable_importance(rng.lognormal(0, 1.5, COLUMNS))


def squared_error(block_type: BlockType, encoded: NDArray[np.uint8], values: Floats) -> Floats:
    error: Floats = (decode(block_type, encoded) - values) ** 2
    return error


@pytest.mark.parametrize("block_type", EXACT)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e-4, 1e3])
def test_bytes_are_those_of_the_gguf_package(block_type: BlockType, scale: float) -> None:
    values = values_like_weights(40, seed=2, scale=scale)
    values[3] = 0.0
    values[4, :32] = np.arange(32) - 16  # halves between two codes
    values[5, :32] = np.abs(values[5, :32])
    values[6, :64] = 3.5
    values[7, :32] = -np.abs(values[7, :32])
    values[7, 5] = -0.0
    expected = quantize(values, GGMLQuantizationType(block_type.id))
    assert encode(block_type, values).tobytes() == expected.tobytes()


def test_f16_is_rounded_to_the_nearest_even() -> None:
    values = values_like_weights(16, scale=3.0)
    values[0, :5] = (1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 3 * 2**-25, 65519)
    assert encode(ENCODED_TYPES["F16"], values).tobytes() == values.astype("<f2").tobytes()


def test_f32_is_copied() -> None:
    values = values_like_weights(3)
    assert encode(F32, values).tobytes() == values.tobytes()


@pytest.mark.parametrize("block_type", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_bytes_depend_neither_on_threads_nor_on_the_processor(
    block_type: BlockType, weighted: bool
) -> None:
    values = values_like_weights(150, seed=5)
    importance = uneven_importance() if weighted else None
    data = values.reshape(-1).view(np.uint8)
    expected = encode(block_type, values, importance).reshape(-1)
    for kernels in _native.available_kernels():
        for threads in (1, 3):
            found = reencode(
                F32,
                data,
                block_type,
                COLUMNS,
                importance=importance,
                threads=threads,
                kernels=kernels,
            )
            assert found.tobytes() == expected.tobytes(), (kernels, threads)


@pytest.mark.parametrize("source", [pytest.param(t, id=t.name) for t in BLOCK_TYPES.values()])
def test_other_formats_are_decoded_on_the_way(source: BlockType) -> None:
    data = random_blocks(source.name, 7, COLUMNS, seed=3)
    expected = encode(Q4_0, decode(source, data))
    for kernels in _native.available_kernels():
        found = reencode(source, data.reshape(-1), Q4_0, COLUMNS, kernels=kernels)
        assert found.tobytes() == expected.tobytes()


def naive(block_type: BlockType, values: Floats) -> Floats:
    """What the format could hold at best without a search, with exact scales for each part."""
    if block_type.name == "Q6_K":
        blocks = values.reshape(-1, 16)
        step = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(31)
        return (np.round(blocks / step) * step).reshape(values.shape)
    levels = {"Q5_K": 32, "Q4_K": 16}.get(block_type.name)
    if levels is not None:
        blocks = values.reshape(-1, 32)
        low, high = blocks.min(axis=1, keepdims=True), blocks.max(axis=1, keepdims=True)
        step = (high - low) / np.float32(levels - 1)
        found: Floats = np.round((blocks - low) / step) * step + low
        return found.reshape(values.shape)
    width, grid = {
        "IQ4_NL": (32, decode(ENCODED_TYPES["IQ4_NL"], _all_codes(2, half=True))[0]),
        "NVFP4": (16, decode(ENCODED_TYPES["MXFP4"], _all_codes(1))[0]),
        "MXFP4": (32, decode(ENCODED_TYPES["MXFP4"], _all_codes(1))[0]),
    }[block_type.name]
    blocks = values.reshape(-1, width)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.abs(grid).max()
    if block_type.name == "MXFP4":
        scale = np.exp2(np.ceil(np.log2(scale)))
    nearest = np.abs(blocks[:, :, None] / scale[:, :, None] - grid).argmin(axis=2)
    found = grid[nearest] * scale
    return found.reshape(values.shape).astype(np.float32)


def _all_codes(header: int, half: bool = False) -> NDArray[np.uint8]:
    """A block that holds every 4-bit code, with a scale of 1."""
    nibbles = np.arange(16, dtype=np.uint8) * 17
    scale = np.array([1], "<f2").view(np.uint8) if half else np.array([127], np.uint8)
    assert len(scale) == header
    return np.concatenate((scale, nibbles))[None]


@pytest.mark.parametrize("block_type", SEARCHED)
def test_the_search_beats_scales_from_extremes(block_type: BlockType) -> None:
    values = values_like_weights(32, seed=7)
    error = squared_error(block_type, encode(block_type, values), values).mean()
    assert error < ((naive(block_type, values) - values) ** 2).mean()


@pytest.mark.parametrize("block_type", IMPORTANCE_USED)
def test_importance_lowers_the_error_where_it_matters(block_type: BlockType) -> None:
    values = values_like_weights(32, seed=8)
    importance = uneven_importance()
    weighted = squared_error(block_type, encode(block_type, values, importance), values)
    plain = squared_error(block_type, encode(block_type, values), values)
    assert (weighted * importance).mean() < 0.97 * (plain * importance).mean()


@pytest.mark.parametrize("block_type", QUANTISED)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_is_not_above_that_of_ggml(block_type: BlockType, weighted: bool) -> None:
    values = values_like_weights(64, seed=9)
    importance = uneven_importance()
    given_importance = importance if weighted else None
    ours = squared_error(block_type, encode(block_type, values, given_importance), values)
    theirs = squared_error(block_type, ggml_encode(block_type, values, given_importance), values)
    weight = importance if weighted else np.float32(1)
    assert (ours * weight).mean() <= 1.001 * (theirs * weight).mean()


def ggml_encode(
    block_type: BlockType, values: Floats, importance: Floats | None
) -> NDArray[np.uint8]:
    """What the library of llama.cpp makes of it."""
    package = pytest.importorskip("llama_cpp")
    folder = Path(package.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.so"))))
    chunk = library.ggml_quantize_chunk
    chunk.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    chunk.restype = ctypes.c_size_t
    rows, columns = values.shape
    out = np.empty((rows, block_type.row_bytes(columns)), np.uint8)
    weights = None if importance is None else importance.ctypes.data
    written = chunk(block_type.id, values.ctypes.data, out.ctypes.data, 0, rows, columns, weights)
    assert written == out.nbytes
    return out


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_iq4_nl_is_about_as_good_as_any_scale_allows(scale: float) -> None:
    values = (np.random.default_rng(3).standard_normal((20, 64)) * scale).astype(np.float32)
    found = float(squared_error(IQ4_NL, encode(IQ4_NL, values), values).sum())
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
    np.testing.assert_allclose(decode(IQ4_NL, encode(IQ4_NL, values)), values, rtol=1e-3)


@pytest.mark.parametrize("block_type", TYPES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_row(block_type: BlockType, bad: float) -> None:
    values = values_like_weights(40)
    values[31, 9] = bad
    values[35, 0] = bad
    data = values.reshape(-1).view(np.uint8)
    for threads in (1, 4):
        with pytest.raises(BadValueError) as caught:
            reencode(F32, data, block_type, COLUMNS, threads=threads)
        assert caught.value.row == 31


@pytest.mark.parametrize(
    "name",
    ["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_1", "Q4_K", "Q6_K", "IQ4_NL", "NVFP4", "MXFP4"],
)
def test_values_too_large_for_a_float16_scale_are_refused(name: str) -> None:
    values = values_like_weights(4)
    values[2, 40] = 1e30
    with pytest.raises(BadValueError, match="row 2"):
        encode(ENCODED_TYPES[name], values)


def test_half_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="not multiples of 32"):
        encode(Q4_0, np.zeros((1, 40), np.float32))


@pytest.mark.parametrize("importance", [np.zeros(512), np.full(512, np.nan), np.ones(256)])
def test_impossible_importance_is_refused(importance: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="importance"):
        encode(ENCODED_TYPES["Q4_K"], values_like_weights(1), importance.astype(np.float32))


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 2**-8),
        min_size=1,
        max_size=24,
    ),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_values_decode_to_something_near(
    numbers: list[float], seed: int, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.choice(np.array(numbers, np.float32), (1, COLUMNS))
    importance = uneven_importance(seed) if weighted else None
    largest = np.abs(values).max()
    for block_type in ENCODED_TYPES.values():
        if block_type.name == "NVFP4" and largest > 448 * 6:
            continue  # which are refused
        decoded = decode(block_type, encode(block_type, values, importance))
        # A block keeps its largest values; the others may lose themselves in its steps.
        assert np.abs(decoded - values).max() <= 0.51 * largest, block_type.name


@pytest.mark.parametrize("name", ["Q4_K", "Q5_K", "Q6_K"])
def test_small_weights_survive_a_subnormal_scale(name: str) -> None:
    values = values_like_weights(8, scale=2e-5)
    error = squared_error(ENCODED_TYPES[name], encode(ENCODED_TYPES[name], values), values)
    assert error.mean() < 0.02 * (values**2).mean()


def bfloat16(values: Floats) -> Floats:
    return decode(ENCODED_TYPES["BF16"], encode(ENCODED_TYPES["BF16"], values))


@pytest.mark.parametrize(("lowest", "highest"), [(-8, 7), (-7, 7), (-3, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_on_the_lattice_of_q4_0_are_kept_exactly(
    lowest: int, highest: int, weighted: bool
) -> None:
    rng = np.random.default_rng(4)
    codes = rng.integers(lowest, highest + 1, (16, 16, 32))
    codes[..., 0] = lowest
    scales = bfloat16(rng.uniform(1e-3, 2e-2, (16, 16, 1)).astype(np.float32))
    values = bfloat16((codes * scales).astype(np.float32).reshape(16, COLUMNS))
    data = values.reshape(-1).view(np.uint8)
    importance = uneven_importance() if weighted else None
    encoded = reencode(F32, data, Q4_0, COLUMNS, importance=importance, lattice=True)
    decoded = decode(Q4_0, encoded.reshape(16, -1))
    np.testing.assert_array_equal(bfloat16(decoded), values)
    assert lattice_share(values.reshape(-1)) == 1.0


@pytest.mark.parametrize("block_type", QUANTISED)
@pytest.mark.parametrize("weighted", [False, True])
def test_quantising_again_costs_little(block_type: BlockType, weighted: bool) -> None:
    importance = uneven_importance() if weighted else None
    values = values_like_weights(64, seed=6)
    first = decode(block_type, encode(block_type, values, importance))
    second = squared_error(block_type, encode(block_type, first, importance), first)
    assert np.sqrt(second.mean()) < 0.3 * np.sqrt(((first - values) ** 2).mean())


def test_other_weights_are_on_no_lattice() -> None:
    values = bfloat16(values_like_weights(64))
    assert lattice_share(values.reshape(-1)) == 0.0
    data = values.reshape(-1).view(np.uint8)
    kept = reencode(F32, data, Q4_0, COLUMNS, lattice=True)
    assert kept.tobytes() == encode(Q4_0, values).tobytes()


@pytest.mark.filterwarnings("error")
def test_damaged_weights_are_on_no_lattice() -> None:
    bits = np.full((2, 32), 0x7FA00000, np.uint32)  # NaN that signals
    bits[1] = 0x80000000  # zeros with a sign
    assert lattice_share(bits.view(np.float32).reshape(-1)) == 0.0


def test_importance_is_one_on_average_and_never_zero() -> None:
    usable = usable_importance(np.array([0.0, 2.0, 4.0, 6.0]))
    np.testing.assert_allclose(usable, [1e-4, 2 / 3, 4 / 3, 2], rtol=1e-6)
    np.testing.assert_array_equal(usable_importance(np.zeros(3)), np.ones(3))
