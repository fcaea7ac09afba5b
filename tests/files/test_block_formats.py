"""Block formats against the `gguf` package, and the native decoder against both."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from nextn import _native
from nextn.files.block_formats import (
    BLOCK_TYPES,
    COPIED_TYPES,
    BlockType,
    decode,
    first_bad_block,
)
from tests.support.random_blocks import random_blocks

ROWS, COLUMNS = 5, 512
TYPES = [pytest.param(block_type, id=block_type.name) for block_type in BLOCK_TYPES.values()]
WITH_SCALES = [pytest.param(t, id=t.name) for t in BLOCK_TYPES.values() if t.scales_at]
PLAIN = [pytest.param(t, id=t.name) for t in BLOCK_TYPES.values() if t.elements == 1]


def oracle(block_type: BlockType, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = dequantize(data, GGMLQuantizationType(block_type.id))
    return np.asarray(values, np.float32).reshape(len(data), -1)


def assert_same_bits(actual: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("block_type", TYPES)
def test_name_and_sizes_are_those_of_the_format(block_type: BlockType) -> None:
    kind = GGMLQuantizationType(block_type.id)
    assert kind.name == block_type.name
    assert GGML_QUANT_SIZES[kind] == (block_type.elements, block_type.bytes)


@pytest.mark.parametrize("block_type", TYPES)
def test_decodes_to_the_same_bits(block_type: BlockType) -> None:
    data = random_blocks(block_type.name, ROWS, COLUMNS, seed=1)
    assert_same_bits(decode(block_type, data), oracle(block_type, data))


@pytest.mark.parametrize("block_type", WITH_SCALES)
@pytest.mark.parametrize("scale", [0x0000, 0x8000, 0x0001, 0x83FF, 0x7BFF, 0xFBFF])
def test_decodes_extreme_scales_to_the_same_bits(block_type: BlockType, scale: int) -> None:
    # Zero, negative zero, subnormal and the largest float16 in every place of a scale or minimum.
    data = random_blocks(block_type.name, ROWS, COLUMNS, seed=2)
    blocks = data.reshape(-1, block_type.bytes)
    for at in block_type.scales_at:
        blocks[:, at : at + 2] = np.frombuffer(scale.to_bytes(2, "little"), np.uint8)
    assert_same_bits(decode(block_type, data), oracle(block_type, data))


@pytest.mark.parametrize("block_type", TYPES)
def test_native_decoder_gives_the_same_bits(block_type: BlockType) -> None:
    data = random_blocks(block_type.name, ROWS, COLUMNS, seed=3)
    out = np.full((ROWS, COLUMNS), np.nan, np.float32)
    _native.decode_blocks(block_type.id, data.reshape(-1), out.reshape(-1))
    assert_same_bits(out, decode(block_type, data))


@pytest.mark.parametrize("block_type", TYPES)
def test_leading_dimensions_are_kept(block_type: BlockType) -> None:
    data = random_blocks(block_type.name, 6, COLUMNS, seed=4).reshape(2, 3, -1)
    values = decode(block_type, data)
    assert values.shape == (2, 3, COLUMNS)
    np.testing.assert_array_equal(values[1, 2], decode(block_type, data[1, 2]))


@pytest.mark.parametrize("block_type", TYPES)
def test_rows_that_are_not_contiguous_are_decoded(block_type: BlockType) -> None:
    data = random_blocks(block_type.name, ROWS, COLUMNS, seed=5)
    np.testing.assert_array_equal(decode(block_type, data[::2]), decode(block_type, data)[::2])


@pytest.mark.parametrize("bad", [0x7C00, 0xFC00, 0x7E00], ids=["inf", "-inf", "nan"])
@pytest.mark.parametrize("block_type", WITH_SCALES)
def test_finds_the_block_with_a_bad_scale(block_type: BlockType, bad: int) -> None:
    blocks = random_blocks(block_type.name, 9, 256, seed=6).reshape(-1, block_type.bytes)
    assert first_bad_block(block_type, blocks) is None
    for at in block_type.scales_at:
        damaged = blocks.copy()
        damaged[4, at : at + 2] = np.frombuffer(bad.to_bytes(2, "little"), np.uint8)
        assert first_bad_block(block_type, damaged) == 4


@pytest.mark.parametrize("block_type", PLAIN)
def test_finds_the_plain_number_that_is_not_finite(block_type: BlockType) -> None:
    blocks = random_blocks(block_type.name, 1, 64, seed=7).reshape(-1, block_type.bytes)
    assert first_bad_block(block_type, blocks) is None
    # All bits set is NaN in every one of these formats.
    blocks[13] = 0xFF
    assert first_bad_block(block_type, blocks) == 13


MXFP4, NVFP4 = BLOCK_TYPES[39], BLOCK_TYPES[40]


def blocks_of_every_byte(block_type: BlockType) -> NDArray[np.uint8]:
    """256 blocks with random codes, whose scales are all bytes from 0 to 255."""
    blocks = random_blocks(block_type.name, 256, block_type.elements, seed=8)
    blocks[:, : 1 if block_type is MXFP4 else 4] = np.arange(256, dtype=np.uint8)[:, None]
    return blocks


def test_every_finite_power_of_two_decodes_to_the_same_bits() -> None:
    blocks = blocks_of_every_byte(MXFP4)[:253]
    assert_same_bits(decode(MXFP4, blocks), oracle(MXFP4, blocks))
    assert np.isfinite(decode(MXFP4, blocks)).all()
    assert first_bad_block(MXFP4, blocks) is None


@pytest.mark.parametrize("power", [253, 254, 255])
def test_finds_the_block_whose_power_of_two_is_too_large(power: int) -> None:
    blocks = blocks_of_every_byte(MXFP4)[:9]
    blocks[4, 0] = power
    assert first_bad_block(MXFP4, blocks) == 4


def test_every_8_bit_float_of_a_scale_decodes_to_the_same_bits() -> None:
    # The package takes the sign of the 8-bit NaN for a part of its value; nobody writes it.
    blocks = blocks_of_every_byte(NVFP4)[:255]
    assert_same_bits(decode(NVFP4, blocks), oracle(NVFP4, blocks))
    assert first_bad_block(NVFP4, blocks) is None


@pytest.mark.parametrize("nan", [0x7F, 0xFF])
def test_an_8_bit_scale_that_is_nan_counts_as_zero(nan: int) -> None:
    blocks = blocks_of_every_byte(NVFP4)[nan : nan + 1]
    assert not decode(NVFP4, blocks).any()
    assert first_bad_block(NVFP4, blocks) is None


@pytest.mark.parametrize("block_type", [MXFP4, NVFP4], ids=["MXFP4", "NVFP4"])
def test_native_decoder_knows_every_byte_of_a_scale(block_type: BlockType) -> None:
    blocks = blocks_of_every_byte(block_type)
    if block_type is MXFP4:
        blocks = blocks[:253]
    out = np.full((len(blocks), block_type.elements), np.nan, np.float32)
    _native.decode_blocks(block_type.id, blocks.reshape(-1), out.reshape(-1))
    assert_same_bits(out, decode(block_type, blocks))


def test_the_formats_that_are_only_copied_have_the_sizes_of_the_gguf_package() -> None:
    for block_type in COPIED_TYPES.values():
        kind = GGMLQuantizationType(block_type.id)
        assert kind.name == block_type.name
        assert (block_type.elements, block_type.bytes) == GGML_QUANT_SIZES[kind]
    assert not COPIED_TYPES.keys() & BLOCK_TYPES.keys()
