"""Which scale belongs to which input of a matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.files.safetensors.quantised.weight import check_dtype, check_shape, groups_of
from nextn.files.safetensors.tensor import StoredTensor


class InputGroups:
    """The groups of inputs that share scales.

    Args:
        scales: of the groups.
        inputs: of the matrix.
        groups: how many there are.
        index: the group of each input, I32 or I64 [inputs]; None where groups are neighbours of
            equal size.

    Attributes:
        parts: the stored tensors that say it, by their role.

    Raises:
        FileFormatError: the groups do not divide the inputs, or an index of another type or shape.
    """

    def __init__(
        self, scales: StoredTensor, inputs: int, groups: int, index: StoredTensor | None = None
    ) -> None:
        self.parts: dict[str, StoredTensor] = {}
        self._inputs, self._groups, self._index = inputs, groups, index
        if index is None:
            self._size = groups_of(scales, inputs, groups)
        else:
            check_dtype(index, "I32", "I64")
            check_shape(index, (inputs,))
            self.parts["group index"] = index

    def of_inputs(self) -> NDArray[np.int64]:
        """The group of each input: int64 [inputs].

        Raises:
            FileFormatError: the index names a group that there is not.
        """
        if self._index is None:
            return np.arange(self._inputs) // self._size
        found = self._index.integers()
        if found.min() < 0 or found.max() >= self._groups:
            self._index.fail(f"names groups outside of 0 to {self._groups - 1}")
        return found
