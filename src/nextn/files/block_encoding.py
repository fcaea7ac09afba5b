"""Encoding of float32 values into the block formats that nextn writes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.files.block_formats import BLOCK_TYPES, IQ4_VALUES, BlockType

F32: BlockType = BLOCK_TYPES[0]
F16: BlockType = BLOCK_TYPES[1]
BF16: BlockType = BLOCK_TYPES[30]
Q8_0: BlockType = BLOCK_TYPES[8]
IQ4_NL: BlockType = BLOCK_TYPES[20]

_LARGEST_CODE = 127
_IQ4_MIDDLES = (IQ4_VALUES[1:] + IQ4_VALUES[:-1]) / 2
# Scales that are tried for a block of IQ4_NL: its largest value, divided by these.
_IQ4_LARGEST = np.concatenate((np.arange(-142, -108, 6), np.arange(98, 128, 5))).astype(np.float32)
_BLOCKS_PER_CHUNK = 1 << 14


def encode_q8_0(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode rows: a float16 scale per 32 values, and a signed byte for each.

    The codes are the values divided by the scale before it is rounded, to the nearest, halves away
    from zero, as ggml does it.

    Args:
        values: float32 [..., a multiple of 32], finite.

    Returns:
        uint8 [..., bytes of a row].

    Raises:
        ValueError: rows that are not whole blocks, or values that are not finite or too large.
    """
    if values.shape[-1] % Q8_0.elements:
        raise ValueError(f"[q8_0] rows of {values.shape[-1]} are not multiples of {Q8_0.elements}")
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, Q8_0.elements)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(_LARGEST_CODE)
    if not (scales <= np.finfo(np.float16).max).all():
        raise ValueError("[q8_0] values that are NaN, infinite or too large for a float16 scale")
    with np.errstate(divide="ignore"):
        inverse = np.where(scales == 0, 0, 1 / scales).astype(np.float32)
    scaled = blocks * inverse
    codes = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int8)
    encoded = np.empty((len(blocks), Q8_0.bytes), np.uint8)
    encoded[:, :2] = scales.astype("<f2").view(np.uint8)
    encoded[:, 2:] = codes.view(np.uint8)
    return encoded.reshape(*values.shape[:-1], -1)


def encode_iq4_nl(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode rows: a float16 scale per 32 values, and four bits for each, an index of a fixed grid.

    Of some scales that bring the largest value of a block to about either end of the grid, the one
    with the least squared error is taken, after it was fitted to the values that the codes mean.

    Args:
        values: float32 [..., a multiple of 32], finite.

    Returns:
        uint8 [..., bytes of a row].

    Raises:
        ValueError: rows that are not whole blocks, or values that are not finite or too large.
    """
    if values.shape[-1] % IQ4_NL.elements:
        raise ValueError(
            f"[iq4_nl] rows of {values.shape[-1]} are not multiples of {IQ4_NL.elements}"
        )
    blocks = np.ascontiguousarray(values, np.float32).reshape(-1, IQ4_NL.elements)
    if not (np.abs(blocks).max(initial=0) <= np.finfo(np.float16).max):
        raise ValueError("[iq4_nl] values that are NaN, infinite or too large for a float16 scale")
    encoded = np.empty((len(blocks), IQ4_NL.bytes), np.uint8)
    for start in range(0, len(blocks), _BLOCKS_PER_CHUNK):
        part = slice(start, start + _BLOCKS_PER_CHUNK)
        encoded[part] = _iq4_nl_blocks(blocks[part])
    return encoded.reshape(*values.shape[:-1], -1)


def _iq4_nl_blocks(blocks: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Blocks of 32 values: uint8 [blocks, 18]."""
    at = np.abs(blocks).argmax(axis=1)[:, None]
    largest = np.take_along_axis(blocks, at, axis=1)
    best = np.full((len(blocks), 1), -1.0, np.float32)
    scales = np.zeros((len(blocks), 1), np.float32)
    codes = np.full(blocks.shape, 8, np.uint8)
    for target in _IQ4_LARGEST:
        # Values of zero only would be divided by zero; any scale but that is right for them.
        tried = np.where(largest == 0, 1, largest / target)
        found = np.searchsorted(_IQ4_MIDDLES, blocks / tried).astype(np.uint8)
        grid = IQ4_VALUES[found]
        projected = (blocks * grid).sum(axis=1, keepdims=True)
        length = (grid * grid).sum(axis=1, keepdims=True)
        # The squared error with the scale that fits best is the values' own square less this.
        explained = projected * projected / length
        better = explained > best
        best = np.where(better, explained, best)
        scales = np.where(better, projected / length, scales)
        codes = np.where(better, found, codes)
    encoded = np.empty((len(blocks), IQ4_NL.bytes), np.uint8)
    encoded[:, :2] = scales.astype("<f2").view(np.uint8)
    encoded[:, 2:] = codes[:, :16] | codes[:, 16:] << 4
    return encoded


def encode_f32(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bytes of the values: uint8 [...]."""
    return np.ascontiguousarray(values, "<f4").view(np.uint8)


def encode_f16(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode as float16, rounded to the nearest, halves to even.

    Args:
        values: float32 [..., n].

    Returns:
        uint8 [..., 2 n].

    Raises:
        ValueError: finite values that are too large.
    """
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(values, "<f4").astype("<f2")
    if not (np.isfinite(rounded) | ~np.isfinite(values)).all():
        raise ValueError("[f16] values that are too large")
    return rounded.view(np.uint8)


def encode_bf16(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Encode as the upper halves of float32, rounded to the nearest, halves to even.

    Args:
        values: float32 [..., n].

    Returns:
        uint8 [..., 2 n].

    Raises:
        ValueError: NaN, which rounding could make infinite, or finite values that are too large.
    """
    bits = np.ascontiguousarray(values, "<f4").view("<u4")
    rounded: NDArray[np.uint16] = (bits + (0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")
    # The largest values round to infinity; what was infinite before stays so.
    if np.isnan(values).any() or ((rounded & 0x7FFF == 0x7F80) & np.isfinite(values)).any():
        raise ValueError("[bf16] values that are NaN or too large")
    return rounded.view(np.uint8)
