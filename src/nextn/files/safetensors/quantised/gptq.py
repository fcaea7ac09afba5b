"""GPTQ (Frantar et al., 2022): codes with a scale and a zero for each group of inputs.

    w[n, k] = scales[g[k], n] * (code[n, k] - zero[g[k], n])

`qweight` packs the codes along the inputs, `qzeros` packs the zeros along the outputs. `g_idx` says
which group an input belongs to; where a model was quantised in the order of activations, groups
are not neighbours. Files of version 1 store the zero less one, modulo the number of codes; those of
version 2 ("checkpoint_format": "gptq_v2") store it as it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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

BITS = (2, 4, 8)


class GptqWeight(Weight):
    """See the module. The number of bits follows from the shapes.

    Args:
        name: of the weight.
        codes: `qweight`, I32 [inputs * bits / 32, outputs].
        zeros: `qzeros`, I32 [groups, outputs * bits / 32].
        scales: [groups, outputs].
        group_index: `g_idx`, I32 [inputs]; None where groups are neighbours.
        stores_zeros_less_one: whether the file is of version 1.
    """

    def __init__(
        self,
        name: str,
        codes: StoredTensor,
        zeros: StoredTensor,
        scales: StoredTensor,
        group_index: StoredTensor | None,
        *,
        stores_zeros_less_one: bool,
    ) -> None:
        check_dtype(codes, "I32")
        check_dtype(zeros, "I32")
        check_dtype(scales, "F16", "BF16", "F32")
        packed_inputs, outputs = matrix_shape(codes)
        groups, scale_outputs = matrix_shape(scales)
        if scale_outputs != outputs:
            raise unfit(scales, f"scales for {outputs} outputs")
        self._bits = _bits_of(zeros, groups, outputs)
        inputs = packed_inputs * WORD_BITS // self._bits
        parts = {"codes": codes, "zeros": zeros, "scales": scales}
        if group_index is None:
            self._group_size = groups_of(scales, inputs, groups)
        else:
            check_dtype(group_index, "I32", "I64")
            check_shape(group_index, (inputs,))
            parts["group index"] = group_index
        self._codes, self._zeros, self._scales = codes, zeros, scales
        self._group_index = group_index
        self._added_to_zeros = 1 if stores_zeros_less_one else 0
        version = 1 if stores_zeros_less_one else 2
        layout = f"GPTQ {self._bits}-bit (version {version})"
        super().__init__(name, layout, (outputs, inputs), parts)

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        groups = self._groups()
        mask = (1 << self._bits) - 1
        codes = unpack_words(self._codes.array[:, start:stop].T, self._bits)
        zeros = unpack_words(self._zeros.array, self._bits)[:, start:stop].astype(np.int32)
        # A zero of 0 is stored as the largest code by version 1, so that the sum wraps around.
        zeros = zeros + self._added_to_zeros & mask
        scales = self._scales.dtype.decode(self._scales.array[:, start:stop])
        values = codes.astype(np.float32)
        values -= zeros.T[:, groups]
        values *= scales.T[:, groups]
        return values

    def _groups(self) -> NDArray[np.int64]:
        """The group of each input: int64 [inputs]."""
        if self._group_index is None:
            return np.arange(self.shape[1]) // self._group_size
        groups = self._group_index.integers()
        count = self._scales.shape[0]
        if groups.min() < 0 or groups.max() >= count:
            self._group_index.fail(f"names groups outside of 0 to {count - 1}")
        return groups


def _bits_of(zeros: StoredTensor, groups: int, outputs: int) -> int:
    """Bits of a code, from the shape of the zeros."""
    for bits in BITS:
        if zeros.shape == (groups, outputs * bits // WORD_BITS) and not outputs * bits % WORD_BITS:
            return bits
    raise unfit(zeros, f"GPTQ zeros of 2, 4 or 8 bits for {groups} groups and {outputs} outputs")
