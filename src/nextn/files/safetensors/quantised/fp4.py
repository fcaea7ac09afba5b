"""4-bit floats (E2M1), two in a byte: the even element in its low half, the odd one in its high.

The formats that build on them differ in their scales: see `nvfp4` and `mxfp4`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.files.safetensors.quantised.weight import Floats

_VALUES: Floats = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
_E2M1: Floats = np.concatenate((_VALUES, -_VALUES))
# Both values of a byte at once.
_PAIRS: Floats = np.stack((_E2M1[np.arange(256) & 15], _E2M1[np.arange(256) >> 4]), axis=1)


def unpack(codes: NDArray[np.generic]) -> Floats:
    """The values of packed codes.

    Args:
        codes: uint8 [..., n].

    Returns:
        float32 [..., 2 n].
    """
    pairs: Floats = _PAIRS[codes.view(np.uint8)]
    return pairs.reshape(*codes.shape[:-1], -1)


def scale_groups(values: Floats, scales: Floats) -> Floats:
    """Multiply groups of columns by their scales.

    Args:
        values: float32 [..., groups * columns of a group], changed in place.
        scales: float32 [..., groups].

    Returns:
        `values`.
    """
    grouped = values.reshape(*scales.shape, -1)
    grouped *= scales[..., None]
    return values
