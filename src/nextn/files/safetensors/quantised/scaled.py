"""8-bit floats and integers with scales: per tensor, per output, or per block of 128 x 128.

    w[n, k] = code[n, k] * scale[n // block rows, k // block columns]

The scale of DeepSeek's and Qwen's files is called `weight_scale_inv`, and is multiplied by all the
same. compressed-tensors and ModelOpt call it `weight_scale`. Blocks at the edges are cut off.
"""

from __future__ import annotations

import numpy as np

from nextn.files.safetensors.quantised.weight import (
    Floats,
    Weight,
    check_dtype,
    matrix_shape,
    unfit,
)
from nextn.files.safetensors.tensor import StoredTensor

CODE_TYPES = ("F8_E4M3", "F8_E5M2", "I8")
SCALE_TYPES = ("F32", "BF16", "F16", "F8_E8M0")
USUAL_BLOCK = (128, 128)

_TITLES = {"F8_E4M3": "FP8", "F8_E5M2": "FP8 (E5M2)", "I8": "INT8"}


class ScaledWeight(Weight):
    """See the module.

    Args:
        name: of the weight.
        codes: [outputs, inputs].
        scale: a single value, [outputs], [outputs, 1], or one for each block.
        block: outputs and inputs of a block as the configuration has it; None if it says nothing.
    """

    def __init__(
        self,
        name: str,
        codes: StoredTensor,
        scale: StoredTensor,
        block: tuple[int, int] | None = None,
    ) -> None:
        check_dtype(codes, *CODE_TYPES)
        check_dtype(scale, *SCALE_TYPES)
        rows, columns = matrix_shape(codes)
        self._codes = codes
        self._scale = scale
        elements = scale.nbytes // scale.dtype.bytes
        # Rows and columns that share a scale; the last of them may have fewer.
        if elements == 1:
            self._block, where = (rows, columns), "per tensor"
        elif scale.shape in ((rows,), (rows, 1)):
            self._block, where = (1, columns), "per output"
        else:
            self._block = _block_of(scale, rows, columns, block)
            where = f"in blocks of {self._block[0]} x {self._block[1]}"
        layout = f"{_TITLES[codes.dtype.name]} {where}"
        super().__init__(name, layout, (rows, columns), {"codes": codes, "scale": scale})

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        high, wide = self._block
        columns = self.shape[1]
        scales = self._scale.dtype.decode(self._scale.array.reshape(-1, -(-columns // wide)))
        scales = scales[np.arange(start, stop) // high]
        values = self._codes.dtype.decode(self._codes.array[start:stop])
        # One block of columns after the other: a whole matrix of scales would be as large again.
        for index in range(scales.shape[1]):
            values[:, index * wide : (index + 1) * wide] *= scales[:, index : index + 1]
        return values


def _block_of(
    scale: StoredTensor, rows: int, columns: int, declared: tuple[int, int] | None
) -> tuple[int, int]:
    """Find the size of a block: the one that was declared, or else the usual one."""
    for high, wide in filter(None, (declared, USUAL_BLOCK)):
        if scale.shape == (-(-rows // high), -(-columns // wide)):
            return high, wide
    raise unfit(scale, f"scales for {rows} outputs and {columns} inputs")
