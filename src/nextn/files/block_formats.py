"""The block formats of GGUF files, and what they mean: decoding to float32 in NumPy.

This is the definition that the native kernels are tested against. Every decoder takes blocks as
uint8 [blocks, bytes per block] and returns float32 [blocks, elements per block]. The arithmetic is
float32 in the order scale * sub-scale * code - minimum, as the file format's own tools do it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_FIRST_BAD_POWER = 253  # 12 * 2^(253 - 128) is beyond float32; 255 is NaN

# What the 4-bit codes of the IQ4 formats mean: a non-uniform grid, finer around zero.
IQ4_VALUES: Floats = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)
# Twice the values of the 4-bit floats E2M1 (OCP Microscaling Formats 1.0), so that they are whole.
# The code of negative zero means zero.
_FP4_VALUES: Floats = np.array(
    [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32
)
# Their scales by byte, therefore halved: powers of two (E8M0), and 8-bit floats (E4M3) without the
# sign, whose NaN counts as zero.
_HALF_OF_POWER: Floats = np.ldexp(1.0, np.arange(256) - 128).astype(np.float32)
_E4M3_EXPONENTS, _E4M3_MANTISSAS = np.divmod(np.arange(128), 8)
_HALF_OF_E4M3: Floats = np.ldexp(
    (_E4M3_MANTISSAS + 8 * (_E4M3_EXPONENTS > 0)).astype(np.float32),
    np.maximum(_E4M3_EXPONENTS, 1) - 11,
)
_HALF_OF_E4M3[127] = 0


@dataclass(frozen=True, slots=True)
class BlockType:
    """A block format.

    Attributes:
        id: its number in files.
        name: its name in ggml.
        elements: elements of one block.
        bytes: bytes of one block.
        scales_at: where in a block its float16 scale and minimum lie.
        power_at: where in a block a power of two lies as one byte, which is its scale.
    """

    id: int
    name: str
    elements: int
    bytes: int
    scales_at: tuple[int, ...] = ()
    power_at: int | None = None

    def row_bytes(self, elements: int) -> int:
        """Bytes of a row of `elements` elements, a multiple of the block's elements."""
        return elements // self.elements * self.bytes


def decode(block_type: BlockType, data: Bytes) -> Floats:
    """Decode rows of blocks.

    Args:
        block_type: the format.
        data: uint8 [..., row bytes].

    Returns:
        float32 [..., row elements].
    """
    rows = data.shape[:-1]
    blocks = np.ascontiguousarray(data).reshape(-1, block_type.bytes)
    decoded = _DECODERS[block_type.id](blocks)
    return decoded.astype(np.float32, copy=False).reshape(*rows, -1)


def first_bad_block(block_type: BlockType, blocks: Bytes) -> int | None:
    """Find the first block with a scale, minimum or plain number that is NaN or infinite.

    A power of two is also bad if it is so large that the block's largest code overflows float32.
    The scales of NVFP4 are always finite.

    Args:
        block_type: the format.
        blocks: uint8 [blocks, bytes per block].
    """
    if block_type.elements == 1:
        bad = ~np.isfinite(decode(block_type, blocks)).all(axis=1)
    else:
        bad = np.zeros(len(blocks), np.bool_)
        for at in block_type.scales_at:
            bad |= ~np.isfinite(_half(blocks, at))[:, 0]
        if block_type.power_at is not None:
            bad |= blocks[:, block_type.power_at] >= _FIRST_BAD_POWER
    found = np.flatnonzero(bad)
    return int(found[0]) if found.size else None


def _half(blocks: Bytes, at: int) -> Floats:
    """The float16 at byte `at` of each block, as float32 [blocks, 1]."""
    half = np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2")
    result: Floats = half.astype(np.float32)
    return result


def _nibbles(data: Bytes) -> Bytes:
    """Low nibbles, then high nibbles: [blocks, n] to [blocks, 2 n]."""
    return np.concatenate((data & 15, data >> 4), axis=1)


def _bits(data: Bytes) -> Bytes:
    """One byte per bit, lowest first: [blocks, n] to [blocks, 8 n]."""
    return np.unpackbits(data, axis=1, bitorder="little")


def _f32(blocks: Bytes) -> Floats:
    return blocks.view("<f4")


def _f16(blocks: Bytes) -> Floats:
    return _half(blocks, 0)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _q4_0(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 2:]).astype(np.int8) - 8
    return _half(blocks, 0) * codes.astype(np.float32)


def _q4_1(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]).astype(np.float32) + _half(blocks, 2)


def _q5_0(blocks: Bytes) -> Floats:
    codes = (_nibbles(blocks[:, 6:]) | _bits(blocks[:, 2:6]) << 4).astype(np.int8) - 16
    return _half(blocks, 0) * codes.astype(np.float32)


def _q5_1(blocks: Bytes) -> Floats:
    codes = _nibbles(blocks[:, 8:]) | _bits(blocks[:, 4:8]) << 4
    return _half(blocks, 0) * codes.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _k_scales(packed: Bytes) -> tuple[Floats, Floats]:
    """The eight 6-bit scales and minima of Q4_K and Q5_K, packed in 12 bytes: [blocks, 8] each."""
    low, middle, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate((low & 63, (high & 15) | (low >> 6) << 4), axis=1)
    minima = np.concatenate((middle & 63, (high >> 4) | (middle >> 6) << 4), axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _k_codes(data: Bytes) -> Bytes:
    """4-bit codes of eight sub-blocks; two neighbours share 32 bytes: [blocks, 8, 32]."""
    pairs = data.reshape(-1, 4, 1, 32)
    return np.concatenate((pairs & 15, pairs >> 4), axis=2).reshape(-1, 8, 32)


def _k_values(blocks: Bytes, codes: Bytes) -> Floats:
    scales, minima = _k_scales(blocks[:, 4:16])
    scale = (_half(blocks, 0) * scales)[:, :, None]
    minimum = (_half(blocks, 2) * minima)[:, :, None]
    return (scale * codes.astype(np.float32) - minimum).reshape(-1, 256)


def _q4_k(blocks: Bytes) -> Floats:
    return _k_values(blocks, _k_codes(blocks[:, 16:]))


def _q5_k(blocks: Bytes) -> Floats:
    # Bit j of byte i is the fifth bit of element i of sub-block j.
    high: Bytes = _bits(blocks[:, 16:48]).reshape(-1, 32, 8).swapaxes(1, 2) << np.uint8(4)
    return _k_values(blocks, _k_codes(blocks[:, 48:]) | high)


def _q6_k(blocks: Bytes) -> Floats:
    # Each half of the block: 64 bytes of low nibbles, 32 bytes of high bit pairs, 128 elements.
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = np.concatenate((low & 15, low >> 4), axis=2).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & 3
    codes = (low | high << 4).astype(np.int8) - 32
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return (scales[:, :, None] * codes.reshape(-1, 16, 16).astype(np.float32)).reshape(-1, 256)


def _look_up(values: Floats, data: Bytes) -> Floats:
    """What nibbles stand for, in the order of `_nibbles`: [blocks, n] to [blocks, 2 n]."""
    found: Floats = values[_nibbles(data)]
    return found


def _pairs_of_bits(data: Bytes) -> Bytes:
    """2-bit codes; each byte of 32 holds one of four sub-blocks: [blocks, 64] to [blocks, 256]."""
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    codes: Bytes = data.reshape(-1, 2, 1, 32) >> shifts & np.uint8(3)
    return codes.reshape(-1, 256)


def _q2_k(blocks: Bytes) -> Floats:
    scales = _half(blocks, 80) * (blocks[:, :16] & 15).astype(np.float32)
    minima = _half(blocks, 82) * (blocks[:, :16] >> 4).astype(np.float32)
    codes = _pairs_of_bits(blocks[:, 16:80]).reshape(-1, 16, 16).astype(np.float32)
    return (scales[:, :, None] * codes - minima[:, :, None]).reshape(-1, 256)


def _q3_k(blocks: Bytes) -> Floats:
    # Bit j of byte i is the third bit of element i of the j-th 32 elements.
    high = _bits(blocks[:, :32]).reshape(-1, 32, 8).swapaxes(1, 2).reshape(-1, 256)
    codes = (_pairs_of_bits(blocks[:, 32:96]) | high << np.uint8(2)).astype(np.int8) - 4
    # Sixteen 6-bit scales: low nibbles in eight bytes, high bit pairs in four.
    packed = blocks[:, 96:108]
    pairs = np.concatenate([packed[:, 8:] >> np.uint8(shift) & 3 for shift in (0, 2, 4, 6)], axis=1)
    sub_scales = (_nibbles(packed[:, :8]) | pairs << 4).astype(np.int8) - 32
    scales = _half(blocks, 108) * sub_scales.astype(np.float32)
    return (scales[:, :, None] * codes.reshape(-1, 16, 16).astype(np.float32)).reshape(-1, 256)


def _iq4_nl(blocks: Bytes) -> Floats:
    return _half(blocks, 0) * _look_up(IQ4_VALUES, blocks[:, 2:])


def _iq4_xs(blocks: Bytes) -> Floats:
    # Eight 6-bit scales: low nibbles in four bytes, high bit pairs in one 16-bit word.
    low = np.stack((blocks[:, 4:8] & 15, blocks[:, 4:8] >> 4), axis=2).reshape(-1, 8)
    pairs = (blocks[:, 2:4, None] >> np.array([0, 2, 4, 6], np.uint8) & 3).reshape(-1, 8)
    sub_scales = (low | pairs << 4).astype(np.int8) - 32
    scales: Floats = _half(blocks, 0) * sub_scales.astype(np.float32)
    values = _look_up(IQ4_VALUES, blocks[:, 8:].reshape(-1, 16)).reshape(-1, 8, 32)
    return (scales[:, :, None] * values).reshape(-1, 256)


def _mxfp4(blocks: Bytes) -> Floats:
    scales: Floats = _HALF_OF_POWER[blocks[:, :1]]
    return scales * _look_up(_FP4_VALUES, blocks[:, 1:])


def _nvfp4(blocks: Bytes) -> Floats:
    # Four scales, whose signs are not used. Byte k of a group of 16 holds elements k and k + 8.
    scales: Floats = _HALF_OF_E4M3[blocks[:, :4] & 127]
    values = _look_up(_FP4_VALUES, blocks[:, 4:].reshape(-1, 8)).reshape(-1, 4, 16)
    return (scales[:, :, None] * values).reshape(-1, 64)


_FORMATS: tuple[tuple[BlockType, Callable[[Bytes], Floats]], ...] = (
    (BlockType(0, "F32", 1, 4), _f32),
    (BlockType(1, "F16", 1, 2), _f16),
    (BlockType(2, "Q4_0", 32, 18, (0,)), _q4_0),
    (BlockType(3, "Q4_1", 32, 20, (0, 2)), _q4_1),
    (BlockType(6, "Q5_0", 32, 22, (0,)), _q5_0),
    (BlockType(7, "Q5_1", 32, 24, (0, 2)), _q5_1),
    (BlockType(8, "Q8_0", 32, 34, (0,)), _q8_0),
    (BlockType(10, "Q2_K", 256, 84, (80, 82)), _q2_k),
    (BlockType(11, "Q3_K", 256, 110, (108,)), _q3_k),
    (BlockType(12, "Q4_K", 256, 144, (0, 2)), _q4_k),
    (BlockType(13, "Q5_K", 256, 176, (0, 2)), _q5_k),
    (BlockType(14, "Q6_K", 256, 210, (208,)), _q6_k),
    (BlockType(20, "IQ4_NL", 32, 18, (0,)), _iq4_nl),
    (BlockType(23, "IQ4_XS", 256, 136, (0,)), _iq4_xs),
    (BlockType(30, "BF16", 1, 2), _bf16),
    (BlockType(39, "MXFP4", 32, 17, power_at=0), _mxfp4),
    (BlockType(40, "NVFP4", 64, 36), _nvfp4),
)
_DECODERS = {block_type.id: decoder for block_type, decoder in _FORMATS}

BLOCK_TYPES: dict[int, BlockType] = {block_type.id: block_type for block_type, _ in _FORMATS}
"""The formats that nextn reads, by their number in GGUF files."""

I32 = BlockType(26, "I32", 1, 4)
"""32-bit integers: lists of token ids. No weight is made of them."""

COPIED_TYPES: dict[int, BlockType] = {
    block_type.id: block_type
    for block_type in (
        BlockType(16, "IQ2_XXS", 256, 66),
        BlockType(17, "IQ2_XS", 256, 74),
        BlockType(18, "IQ3_XXS", 256, 98),
        BlockType(19, "IQ1_S", 256, 50),
        BlockType(21, "IQ3_S", 256, 110),
        BlockType(22, "IQ2_S", 256, 82),
        BlockType(24, "I8", 1, 1),
        BlockType(25, "I16", 1, 2),
        BlockType(27, "I64", 1, 8),
        BlockType(28, "F64", 1, 8),
        BlockType(29, "IQ1_M", 256, 56),
        BlockType(34, "TQ1_0", 256, 54),
        BlockType(35, "TQ2_0", 256, 66),
        BlockType(41, "Q1_0", 128, 18),
    )
}
"""Formats of which nextn knows the size alone: it copies their tensors, but does not read them."""
