"""Unsigned codes of 2, 4 or 8 bits, packed into 32-bit words from the lowest bits up."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32


def unpack_words(words: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Unpack along the last axis.

    Args:
        words: int32 [..., n].
        bits: of a code; divides 8.

    Returns:
        uint8 [..., n * 32 / bits].
    """
    data = np.ascontiguousarray(words).astype("<i4", copy=False).view(np.uint8)
    if bits == 8:
        return data
    # Each byte holds its codes one after the other, the first in the lowest bits.
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes: NDArray[np.uint8] = data[..., None] >> shifts & np.uint8((1 << bits) - 1)
    return codes.reshape(*data.shape[:-1], -1)
