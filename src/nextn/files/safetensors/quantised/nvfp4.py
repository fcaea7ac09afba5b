"""NVFP4: 4-bit floats, an 8-bit float (E4M3) for each 16 of them, and one scale for the tensor.

Two programs write it, and their scales of the tensor are reciprocals of each other:

    ModelOpt              w = e2m1 * (weight_scale * weight_scale_2)        codes in `weight`
    compressed-tensors    w = e2m1 * (weight_scale / weight_global_scale)   codes in `weight_packed`
"""

from __future__ import annotations

import numpy as np

from nextn.files.safetensors.quantised.fp4 import scale_groups, unpack
from nextn.files.safetensors.quantised.weight import (
    Floats,
    Weight,
    check_dtype,
    check_shape,
    matrix_shape,
    one_value,
)
from nextn.files.safetensors.tensor import StoredTensor

GROUP = 16


class Nvfp4Weight(Weight):
    """See the module.

    Args:
        name: of the weight.
        codes: U8 [outputs, inputs / 2].
        scales: F8_E4M3 [outputs, inputs / 16].
        tensor_scale: a single value.
        divides: whether `tensor_scale` divides, as in files of compressed-tensors.
    """

    def __init__(
        self,
        name: str,
        codes: StoredTensor,
        scales: StoredTensor,
        tensor_scale: StoredTensor,
        *,
        divides: bool,
    ) -> None:
        check_dtype(codes, "U8")
        check_dtype(scales, "F8_E4M3")
        check_dtype(tensor_scale, "F32", "BF16", "F16")
        rows, half = matrix_shape(codes)
        if 2 * half % GROUP:
            codes.fail(f"has rows of {2 * half} elements, which are not whole groups of {GROUP}")
        check_shape(scales, (rows, 2 * half // GROUP))
        self._codes = codes
        self._scales = scales
        self._tensor_scale = tensor_scale
        self._divides = divides
        parts = {"codes": codes, "scales": scales, "tensor scale": tensor_scale}
        kind = "compressed-tensors" if divides else "ModelOpt"
        super().__init__(name, f"NVFP4 ({kind})", (rows, 2 * half), parts)

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        scales = self._scales.dtype.decode(self._scales.array[start:stop])
        tensor_scale = one_value(self._tensor_scale)
        scales = scales / tensor_scale if self._divides else scales * tensor_scale
        return scale_groups(unpack(self._codes.array[start:stop]), scales.astype(np.float32))
