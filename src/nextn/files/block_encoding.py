"""Encoding of float32 values into the block formats that nextn writes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.files.block_formats import BLOCK_TYPES, BlockType

F32: BlockType = BLOCK_TYPES[0]
F16: BlockType = BLOCK_TYPES[1]
BF16: BlockType = BLOCK_TYPES[30]
Q8_0: BlockType = BLOCK_TYPES[8]

_LARGEST_CODE = 127


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
