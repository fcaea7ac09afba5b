"""MXFP4 (OCP Microscaling Formats 1.0): 4-bit floats, and a power of two for each 32 of them.

    w = e2m1 * 2 ** (scale - 127)

gpt-oss stores stacks of experts as `NAME_blocks` [experts, outputs, groups, 16] and `NAME_scales`
[experts, outputs, groups]; others store matrices as they store NVFP4, without a scale of the
tensor.
"""

from __future__ import annotations

import numpy as np

from nextn.files.safetensors.dtypes import E8M0
from nextn.files.safetensors.quantised.fp4 import scale_groups, unpack
from nextn.files.safetensors.quantised.weight import (
    Floats,
    Weight,
    check_dtype,
    check_shape,
    matrix_shape,
)
from nextn.files.safetensors.tensor import StoredTensor

GROUP = 32
_NOT_A_NUMBER = 255


class Mxfp4Weight(Weight):
    """See the module.

    Args:
        name: of the weight.
        codes: U8 [outputs, inputs / 2], or [..., outputs, inputs / 32, 16].
        scales: U8 or F8_E8M0 [..., outputs, inputs / 32].
    """

    def __init__(self, name: str, codes: StoredTensor, scales: StoredTensor) -> None:
        check_dtype(codes, "U8")
        check_dtype(scales, "U8", "F8_E8M0")
        if len(codes.shape) > 2:
            if codes.shape[-1] != GROUP // 2 or 0 in codes.shape:
                codes.fail(f"has the shape {list(codes.shape)}, but must end in {GROUP // 2}")
            check_shape(scales, codes.shape[:-1])
            shape = (*codes.shape[:-2], codes.shape[-2] * GROUP)
        else:
            rows, half = matrix_shape(codes)
            if 2 * half % GROUP:
                codes.fail(f"has rows of {2 * half} elements, which are no whole groups of {GROUP}")
            check_shape(scales, (rows, 2 * half // GROUP))
            shape = (rows, 2 * half)
        self._codes = codes
        self._scales = scales
        super().__init__(name, "MXFP4", shape, {"codes": codes, "scales": scales})

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        powers = self._scales.array[start:stop].view(np.uint8)
        if powers.size and int(powers.max()) == _NOT_A_NUMBER:
            self._scales.fail("holds the scale 255, which is NaN")
        codes = self._codes.array[start:stop].reshape(*powers.shape, GROUP // 2)
        values = unpack(codes).reshape(*powers.shape[:-1], -1)
        return scale_groups(values, E8M0[powers])
