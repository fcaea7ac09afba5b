"""Integers as compressed-tensors packs them ("pack-quantized"), of 4 or 8 bits.

    w[n, k] = scale[n, g[k]] * (code[n, k] - zero[n, g[k]])

Codes are unsigned and packed along the inputs; `weight_shape` says how many of those in the last
word count. Without zeros of its own a weight is symmetric: the zero is the middle code. Zeros are
packed along the outputs. `weight_g_idx` says which group an input belongs to where groups are not
neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.files.safetensors.limits import MOST_ELEMENTS
from nextn.files.safetensors.quantised.packing import WORD_BITS, unpack_words
from nextn.files.safetensors.quantised.weight import (
    Floats,
    Weight,
    check_dtype,
    check_shape,
    groups_of,
    matrix_shape,
    unfit,
)
from nextn.files.safetensors.tensor import StoredTensor

BITS = (4, 8)


class PackedIntegerWeight(Weight):
    """See the module. The number of bits follows from the shapes.

    Args:
        name: of the weight.
        codes: I32 [outputs, ceil(inputs * bits / 32)].
        scales: [outputs, groups].
        shape: I64 or I32 [2]: outputs, inputs.
        zeros: I32 [ceil(outputs * bits / 32), groups]; None for symmetric weights.
        group_index: [inputs]; None where groups are neighbours.
    """

    def __init__(
        self,
        name: str,
        codes: StoredTensor,
        scales: StoredTensor,
        shape: StoredTensor,
        zeros: StoredTensor | None,
        group_index: StoredTensor | None,
    ) -> None:
        check_dtype(codes, "I32")
        check_dtype(scales, "F16", "BF16", "F32")
        check_dtype(shape, "I64", "I32")
        check_shape(shape, (2,))
        outputs, words = matrix_shape(codes)
        inputs = int(shape.integers()[1])
        if int(shape.integers()[0]) != outputs or not 0 < inputs <= MOST_ELEMENTS:
            shape.fail(f"says {shape.integers().tolist()}, but there are {outputs} outputs")
        self._bits = _bits_of(codes, words, inputs)
        scale_outputs, groups = matrix_shape(scales)
        if scale_outputs != outputs:
            raise unfit(scales, f"scales for {outputs} outputs")
        parts = {"codes": codes, "scales": scales, "shape": shape}
        if zeros is not None:
            check_dtype(zeros, "I32")
            check_shape(zeros, (-(-outputs * self._bits // WORD_BITS), groups))
            parts["zeros"] = zeros
        if group_index is None:
            self._group_size = groups_of(scales, inputs, groups)
        else:
            check_dtype(group_index, "I32", "I64")
            check_shape(group_index, (inputs,))
            parts["group index"] = group_index
        self._codes, self._scales, self._zeros = codes, scales, zeros
        self._group_index = group_index
        symmetric = "symmetric" if zeros is None else "with zeros"
        super().__init__(
            name, f"packed {self._bits}-bit integers, {symmetric}", (outputs, inputs), parts
        )

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        groups = self._groups()
        codes = unpack_words(self._codes.array[start:stop], self._bits)[:, : self.shape[1]]
        values = codes.astype(np.float32)
        if self._zeros is None:
            values -= np.float32(1 << self._bits - 1)
        else:
            zeros = unpack_words(self._zeros.array.T, self._bits)[:, start:stop]
            values -= zeros.T[:, groups]
        values *= self._scales.dtype.decode(self._scales.array[start:stop])[:, groups]
        return values

    def _groups(self) -> NDArray[np.int64]:
        """The group of each input: int64 [inputs]."""
        if self._group_index is None:
            return np.arange(self.shape[1]) // self._group_size
        groups = self._group_index.integers()
        count = self._scales.shape[1]
        if groups.min() < 0 or groups.max() >= count:
            self._group_index.fail(f"names groups outside of 0 to {count - 1}")
        return groups


def _bits_of(codes: StoredTensor, words: int, inputs: int) -> int:
    """Bits of a code, from the number of words of a row."""
    for bits in BITS:
        if words == -(-inputs * bits // WORD_BITS):
            return bits
    raise unfit(codes, f"rows of {inputs} codes of 4 or 8 bits")
