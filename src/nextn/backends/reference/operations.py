"""What each operation computes, as plain functions over float32 arrays [rows, width]."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nextn.plan import Rotary
from nextn.plan.operations import Activation

Array = NDArray[np.float32]


def rms_norm(x: Array, weight: Array, epsilon: float) -> Array:
    """X / sqrt(mean(x^2) + epsilon) * weight over the last axis (Zhang and Sennrich, 2019)."""
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
    return (x / np.sqrt(mean_square + np.float32(epsilon)) * weight).astype(np.float32)


def activation(x: Array, kind: Activation) -> Array:
    """`silu`: x * sigmoid(x); `gelu`: the tanh approximation."""
    if kind == "silu":
        gated = x / (1.0 + np.exp(-x))
    else:
        gated = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return gated.astype(np.float32)


def linear(x: Array, weight: Array, bias: Array | None, scale: np.float32) -> Array:
    """X [rows, columns] times weight [outputs, columns] transposed, times the scale, plus bias."""
    product: Array = (x @ weight.T) * scale
    return product if bias is None else product + bias


def rope(x: Array, positions: NDArray[np.int32], rotary: Rotary) -> Array:
    """Turn each head of x [rows, heads, head width] by its row's position."""
    angles = positions[:, None, None].astype(np.float64) * np.asarray(rotary.frequencies)
    cos = (np.cos(angles) * rotary.magnitude).astype(np.float32)
    sin = (np.sin(angles) * rotary.magnitude).astype(np.float32)
    pairs = len(rotary.frequencies)
    if rotary.interleaved:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    else:
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    out = x.copy()
    out[..., first] = x[..., first] * cos - x[..., second] * sin
    out[..., second] = x[..., second] * cos + x[..., first] * sin
    return out


def attend(
    query: Array, keys: Array, values: Array, *, position: int, scale: float, window: int | None
) -> Array:
    """Attention of the rows of one sequence, causal, with grouped key heads.

    Args:
        query: [rows, heads, head width], for consecutive positions from `position` on.
        keys: [positions, kv_heads, head width], from position 0 to that of the last row.
        values: like `keys`.
        position: position of the first row.
        scale: factor of the scores.
        window: how many positions a row sees, itself included; None sees all.

    Returns:
        [rows, heads, head width].
    """
    rows, heads, _ = query.shape
    group = heads // keys.shape[1]
    keys, values = np.repeat(keys, group, axis=1), np.repeat(values, group, axis=1)
    scores = np.einsum("rhd,phd->hrp", query, keys, optimize=True) * np.float32(scale)
    row_positions = position + np.arange(rows)[:, None]
    key_positions = np.arange(keys.shape[0])[None, :]
    hidden = key_positions > row_positions
    if window is not None:
        hidden |= key_positions <= row_positions - window
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    result: Array = np.einsum("hrp,phd->rhd", weights, values, optimize=True).astype(np.float32)
    return result


def round_to_bfloat16(x: Array) -> Array:
    """The nearest numbers with 8 significant bits, ties to even; finite ones may become infinite.

    It is done on the bits: the upper 16 of a float32 are a bfloat16. NaN stays NaN.
    """
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) & 0xFFFF0000
    return np.where(np.isnan(x), np.float32(np.nan), rounded.astype(np.uint32).view(np.float32))
