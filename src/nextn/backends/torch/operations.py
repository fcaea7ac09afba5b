"""What each operation computes, in differentiable PyTorch over whole sequences [batch, time, ...].

The same definitions as in `nextn.backends.reference.operations`, which says what is right.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nextn.plan import Rotary
from nextn.plan.operations import Activation


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """X / sqrt(mean(x^2) + epsilon) * weight over the last axis, in float32."""
    return functional.rms_norm(x.float(), (x.shape[-1],), weight, epsilon)


def activation(x: Tensor, kind: Activation) -> Tensor:
    """`silu`: x * sigmoid(x); `gelu`: the tanh approximation."""
    return functional.silu(x) if kind == "silu" else functional.gelu(x, approximate="tanh")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, scale: Tensor | None) -> Tensor:
    """X [..., columns] times weight [outputs, columns] transposed, times the scale, plus bias."""
    product = functional.linear(x, weight)
    if scale is not None:
        product = product * scale
    return product if bias is None else product + bias


def rope(x: Tensor, positions: Tensor, rotary: Rotary) -> Tensor:
    """Turn each head of x [batch, time, heads, head width] by its position [time]."""
    frequencies = torch.tensor(rotary.frequencies, dtype=torch.float64, device=x.device)
    angles = positions.to(torch.float64)[:, None] * frequencies
    cos = (angles.cos() * rotary.magnitude).to(x.dtype)[:, None, :]
    sin = (angles.sin() * rotary.magnitude).to(x.dtype)[:, None, :]
    pairs = len(rotary.frequencies)
    turned, rest = x[..., : 2 * pairs], x[..., 2 * pairs :]
    if rotary.interleaved:
        first, second = turned[..., 0::2], turned[..., 1::2]
    else:
        first, second = turned[..., :pairs], turned[..., pairs:]
    parts = (first * cos - second * sin, second * cos + first * sin)
    both = torch.stack(parts, -1).flatten(-2) if rotary.interleaved else torch.cat(parts, -1)
    return torch.cat((both, rest), -1) if rest.shape[-1] else both


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, window: int | None
) -> Tensor:
    """Causal attention of whole sequences, with grouped key heads.

    Args:
        query: [batch, time, heads, head width].
        key: [batch, time, kv_heads, head width].
        value: like `key`.
        scale: factor of the scores.
        window: how many positions a row sees, itself included; None sees all.

    Returns:
        [batch, time, heads, head width].
    """
    length, group = query.shape[1], query.shape[2] // key.shape[2]
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if group > 1:
        key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    mask = None
    if window is not None and window < length:
        mask = causal_mask(length, window, query.device)
    attended = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale
    )
    return attended.transpose(1, 2)


def causal_mask(length: int, window: int | None, device: torch.device) -> Tensor:
    """Which key (column) each query (row) sees: bool [length, length]."""
    at = torch.arange(length, device=device)
    distance = at[:, None] - at[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)
