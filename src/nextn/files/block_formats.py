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


@dataclass(frozen=True, slots=True)
class BlockType:
    """A block format.

    Attributes:
        id: its number in files.
        name: its name in ggml.
        elements: elements of one block.
        bytes: bytes of one block.
        scales_at: where in a block its float16 scale and minimum lie; empty for plain numbers.
    """

    id: int
    name: str
    elements: int
    bytes: int
    scales_at: tuple[int, ...]

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

    Args:
        block_type: the format.
        blocks: uint8 [blocks, bytes per block].
    """
    if block_type.scales_at:
        values = np.concatenate([_half(blocks, at) for at in block_type.scales_at], axis=1)
    else:
        values = decode(block_type, blocks)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    return int(bad[0]) if bad.size else None


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


_FORMATS: tuple[tuple[BlockType, Callable[[Bytes], Floats]], ...] = (
    (BlockType(0, "F32", 1, 4, ()), _f32),
    (BlockType(1, "F16", 1, 2, ()), _f16),
    (BlockType(2, "Q4_0", 32, 18, (0,)), _q4_0),
    (BlockType(3, "Q4_1", 32, 20, (0, 2)), _q4_1),
    (BlockType(6, "Q5_0", 32, 22, (0,)), _q5_0),
    (BlockType(7, "Q5_1", 32, 24, (0, 2)), _q5_1),
    (BlockType(8, "Q8_0", 32, 34, (0,)), _q8_0),
    (BlockType(12, "Q4_K", 256, 144, (0, 2)), _q4_k),
    (BlockType(13, "Q5_K", 256, 176, (0, 2)), _q5_k),
    (BlockType(14, "Q6_K", 256, 210, (208,)), _q6_k),
    (BlockType(30, "BF16", 1, 2, ()), _bf16),
)
_DECODERS = {block_type.id: decoder for block_type, decoder in _FORMATS}

BLOCK_TYPES: dict[int, BlockType] = {block_type.id: block_type for block_type, _ in _FORMATS}
"""The formats that nextn reads, by their number in GGUF files."""
