"""A weight of a checkpoint as its model means it, however it is stored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError
from nextn.files.safetensors.tensor import StoredTensor

Floats = NDArray[np.float32]


class Weight(ABC):
    """One weight, decoded some rows at a time.

    Attributes:
        name: as the model calls it, such as "model.layers.0.mlp.up_proj.weight".
        layout: how it is stored, in words: "BF16", "FP8 in blocks of 128 x 128", "GPTQ 4-bit".
        shape: of the decoded weight; of a matrix, outputs by inputs.
        parts: the stored tensors that it is made of, by their role.
    """

    def __init__(
        self, name: str, layout: str, shape: tuple[int, ...], parts: Mapping[str, StoredTensor]
    ) -> None:
        self.name = name
        self.layout = layout
        self.shape = shape
        self.parts = dict(parts)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that it is made of."""
        return sum(part.nbytes for part in self.parts.values())

    @property
    def elements(self) -> int:
        """Number of decoded values."""
        return math.prod(self.shape)

    @property
    def is_quantised(self) -> bool:
        """Whether it is stored as anything but plain floats of 16 bits or more."""
        return True

    @abstractmethod
    def rows(self, start: int, stop: int) -> Floats:
        """Decode rows, counted along the first dimension.

        Args:
            start: the first.
            stop: the one behind the last; at most shape[0].

        Returns:
            float32 [stop - start, *shape[1:]].

        Raises:
            FileFormatError: codes or indices that have no meaning.
        """

    def decode(self) -> Floats:
        """Decode all of it: float32, of `shape`."""
        return self.rows(0, self.shape[0]) if self.shape else self.rows(0, 1).reshape(())


class DenseWeight(Weight):
    """Plain numbers.

    Args:
        tensor: the tensor, which is a weight of its own.

    Attributes:
        tensor: the same.
    """

    def __init__(self, tensor: StoredTensor) -> None:
        super().__init__(tensor.name, tensor.dtype.name, tensor.shape, {"weight": tensor})
        self.tensor = tensor

    @property
    def is_quantised(self) -> bool:
        """See `Weight`."""
        return False

    def rows(self, start: int, stop: int) -> Floats:
        """See `Weight`."""
        array = self.tensor.array
        return self.tensor.dtype.decode(array[start:stop] if self.shape else array.reshape(1))


def matrix_shape(tensor: StoredTensor) -> tuple[int, int]:
    """The shape of a tensor that must be a matrix, and not an empty one.

    Raises:
        FileFormatError: it is not.
    """
    if len(tensor.shape) != 2 or 0 in tensor.shape:
        tensor.fail(f"has the shape {list(tensor.shape)}, but must be a matrix")
    return tensor.shape[0], tensor.shape[1]


def check_dtype(tensor: StoredTensor, *names: str) -> None:
    """Check the element type of a tensor.

    Raises:
        FileFormatError: it has another.
    """
    if tensor.dtype.name not in names:
        tensor.fail(f"holds {tensor.dtype.name}, but must hold {' or '.join(names)}")


def check_shape(tensor: StoredTensor, *shapes: tuple[int, ...]) -> None:
    """Check the shape of a tensor.

    Raises:
        FileFormatError: it has another.
    """
    if tensor.shape not in shapes:
        allowed = " or ".join(str(list(shape)) for shape in shapes)
        tensor.fail(f"has the shape {list(tensor.shape)}, but must have {allowed}")


def one_value(tensor: StoredTensor) -> np.float32:
    """The value of a scale for a whole tensor.

    Raises:
        FileFormatError: there is more than one, or it is not finite or not above zero.
    """
    if tensor.nbytes != tensor.dtype.bytes:
        tensor.fail(f"has the shape {list(tensor.shape)}, but must be a single value")
    value = np.float32(tensor.decode().reshape(()))
    if not (np.isfinite(value) and value > 0):
        tensor.fail(f"is {value}, but a scale must be finite and above zero")
    return value


def groups_of(scales: StoredTensor, columns: int, groups: int) -> int:
    """Columns of a group, where `groups` scales share `columns` equally.

    Raises:
        FileFormatError: they cannot.
    """
    if groups < 1 or columns % groups:
        scales.fail(f"has {groups} groups, which {columns} inputs do not divide into")
    return columns // groups


def unfit(tensor: StoredTensor, layouts: str) -> FileFormatError:
    """The error for a tensor whose shape fits none of the layouts that it could have."""
    return tensor.error(
        f"has the shape {list(tensor.shape)}, which fits no known layout of {layouts}"
    )
