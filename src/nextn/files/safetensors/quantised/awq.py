"""AWQ (Lin et al., 2023), as its matrix product ("gemm") stores it: 4-bit codes with zeros.

    w[n, k] = scales[k // group, n] * (code[n, k] - zero[k // group, n])

Codes and zeros are packed along the outputs, eight in a word; the half bytes of a word, from the
lowest up, hold its outputs in the order 0, 2, 4, 6, 1, 3, 5, 7.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.files.safetensors.quantised.packing import unpack_words
from nextn.files.safetensors.quantised.weight import (
    Floats,
    Weight,
    check_dtype,
    check_shape,
    groups_of,
    matrix_shape,
)
from nextn.files.safetensors.tensor import StoredTensor

_BITS = 4
_PER_WORD = 8
# Where in a word each output lies: the inverse of the order above.
_PLACES = np.array([0, 4, 1, 5, 2, 6, 3, 7])


class AwqWeight(Weight):
    """See the module.

    Args:
        name: of the weight.
        codes: `qweight`, I32 [inputs, outputs / 8].
        zeros: `qzeros`, I32 [groups, outputs / 8].
        scales: [groups, outputs].
    """

    def __init__(
        self, name: str, codes: StoredTensor, zeros: StoredTensor, scales: StoredTensor
    ) -> None:
        check_dtype(codes, "I32")
        check_dtype(zeros, "I32")
        check_dtype(scales, "F16", "BF16", "F32")
        inputs, words = matrix_shape(codes)
        groups, _ = matrix_shape(scales)
        check_shape(scales, (groups, words * _PER_WORD))
        check_shape(zeros, (groups, words))
        self._group_size = groups_of(scales, inputs, groups)
        self._codes, self._zeros, self._scales = codes, zeros, scales
        parts = {"codes": codes, "zeros": zeros, "scales": scales}
        super().__init__(name, "AWQ 4-bit", (words * _PER_WORD, inputs), parts)

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        groups = np.arange(self.shape[1]) // self._group_size
        codes = _outputs(self._codes.array, start, stop).astype(np.int16)
        zeros = _outputs(self._zeros.array, start, stop).astype(np.int16)
        scales = self._scales.dtype.decode(self._scales.array[:, start:stop])
        values = (codes - zeros[groups]).astype(np.float32) * scales[groups]
        return np.ascontiguousarray(values.T)


def _outputs(words: NDArray[np.generic], start: int, stop: int) -> NDArray[np.uint8]:
    """The codes of some outputs: int32 [n, words] to uint8 [n, stop - start]."""
    first, last = start // _PER_WORD, -(-stop // _PER_WORD)
    codes = unpack_words(words[:, first:last], _BITS)
    ordered = codes.reshape(len(words), -1, _PER_WORD)[:, :, _PLACES].reshape(len(words), -1)
    return ordered[:, start - first * _PER_WORD : stop - first * _PER_WORD]
