"""Named, shape-checked access to a checkpoint's tensors while a family describes itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files import I32, Checkpoint
from nextn.models.head_tensors import block_of, head_tensor_names, renumbered
from nextn.plan import NormWeight, Weight

_UNUSED_SHOWN = 3


class WeightReader:
    """Gives a family its weights and remembers which were asked for."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._used: set[str] = set()

    def matrix(self, name: str, rows: int, columns: int) -> Weight:
        """A required matrix of `rows` outputs by `columns` inputs.

        Beside `NAME.weight` a file may have a float32 `NAME.scale` of one element, which multiplies
        the product; NVFP4 models do. `NAME.input_scale` is the factor that another program divides
        activations by to fit them into 4-bit floats, and multiplies the product by afterwards: it
        changes nothing where activations keep their range, and is left unused.
        """
        weight = self._checked(name, (rows, columns))
        stem = name.removesuffix(".weight")
        self._used.add(f"{stem}.input_scale")
        return replace(weight, scale=self._scale(f"{stem}.scale"))

    def vector(self, name: str, width: int) -> Weight:
        """A required vector."""
        return self._checked(name, (width,))

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self._checkpoint.tensors

    def row_count(self, name: str) -> int:
        """Rows of a matrix; 0 if there is none."""
        return self._checkpoint.tensors[name].shape[0] if self.has(name) else 0

    def optional_vector(self, name: str, width: int) -> Weight | None:
        """A vector that some models of the family have, such as a bias."""
        return self._checked(name, (width,)) if self.has(name) else None

    def norm(self, name: str, width: int, epsilon: float) -> NormWeight:
        """A required norm weight with its epsilon."""
        return NormWeight(self.vector(name, width), epsilon)

    def output(self, vocab_size: int, hidden: int) -> Weight:
        """The output matrix: its own, or the embedding where the model ties the two."""
        name = "output.weight" if self.has("output.weight") else "token_embd.weight"
        return self.matrix(name, vocab_size, hidden)

    def ignore(self, name: str) -> None:
        """Say that a tensor is known and rightly left unused."""
        self._used.add(name)

    def check_all_used(self) -> None:
        """Refuse a trunk with tensors that the family does not know: they would change the text.

        Tensors of a prediction head are left out: the text does not depend on them.

        Raises:
            UnsupportedModelError: there are such tensors.
            FileFormatError: one of them is the scale of a matrix that is not in the file.
        """
        head = head_tensor_names(self._checkpoint.tensors)
        self._check_used(
            [name for name in self._checkpoint.tensors if name not in head],
            "the text would be wrong without it",
        )

    def check_head_used(self) -> None:
        """Refuse a head with tensors that are not known: its predictions would be wrong.

        Raises:
            UnsupportedModelError, FileFormatError: as `check_all_used`.
        """
        head = head_tensor_names(self._checkpoint.tensors)
        self._check_used(
            [name for name in self._checkpoint.tensors if name in head],
            "the head would guess wrongly without it; load the model without this head",
        )

    def _check_used(self, names: Collection[str], consequence: str) -> None:
        unused = [name for name in names if name not in self._used]
        for name in unused:
            self._check_not_alone(name)
        if unused:
            shown = ", ".join(unused[:_UNUSED_SHOWN])
            more = f" and {len(unused) - _UNUSED_SHOWN} more" if len(unused) > _UNUSED_SHOWN else ""
            raise UnsupportedModelError(
                f"{self._checkpoint.path}: tensor {shown}{more}: not known for the architecture "
                f"{self._checkpoint.architecture!r}, and {consequence}"
            )

    def _scale(self, name: str) -> Weight | None:
        tensor = self._checkpoint.tensors.get(name)
        if tensor is None:
            return None
        weight = self._checked(name, (1,), says="a scale has")
        if tensor.block_type.name != "F32":
            raise FileFormatError(
                self._checkpoint.path,
                f"tensor {name}",
                f"has the block format {tensor.block_type.name}, but a scale must be F32",
            )
        tensor.check_finite()
        return weight

    def _check_not_alone(self, name: str) -> None:
        """Refuse the scale of a matrix that is not there."""
        stem = name.removesuffix(".scale").removesuffix(".input_scale")
        if stem != name and f"{stem}.weight" not in self._checkpoint.tensors:
            raise FileFormatError(
                self._checkpoint.path,
                f"tensor {name}",
                f"is a scale of {stem}.weight, which is missing; the file is incomplete",
            )

    def _checked(
        self, name: str, shape: tuple[int, ...], says: str = "the metadata says"
    ) -> Weight:
        tensor = self._checkpoint.tensors.get(name)
        if tensor is None:
            raise FileFormatError(
                self._checkpoint.path, f"tensor {name}", "missing; the file is incomplete"
            )
        if tensor.shape != shape:
            raise FileFormatError(
                self._checkpoint.path,
                f"tensor {name}",
                f"has the shape {list(tensor.shape)}, but {says} {list(shape)}",
            )
        if tensor.block_type == I32:
            raise FileFormatError(
                self._checkpoint.path, f"tensor {name}", "is a list of integers, not of weights"
            )
        self._used.add(name)
        return _weight(name, shape)


class NewWeights(WeightReader):
    """Weights of a head that is yet to be made, for a trunk that is there.

    It answers like the reader of a finished head that has everything that it is asked for; what
    only some models have, a head has if the trunk's last block has it.

    Attributes:
        shapes: shape of every tensor that was asked for, by name.
    """

    def __init__(self, trunk: Checkpoint, optional: Collection[str] = ()) -> None:
        """Begin with nothing asked for.

        Args:
            trunk: the checkpoint of the trunk.
            optional: names of those tensors that a head may have and this one shall have.
        """
        super().__init__(trunk)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._optional = frozenset(optional)

    def has(self, name: str) -> bool:
        """Whether the head shall have such a tensor."""
        if name in self._optional or block_of(name) is None:
            return name in self._optional
        return renumbered(name, -1) in self._checkpoint.tensors

    def row_count(self, name: str) -> int:
        """Rows of a matrix that is yet to be made: not known."""
        del name
        return 0

    def _checked(
        self, name: str, shape: tuple[int, ...], says: str = "the metadata says"
    ) -> Weight:
        del says
        self.shapes[name] = shape
        return _weight(name, shape)

    def _scale(self, name: str) -> Weight | None:
        return None


def _weight(name: str, shape: tuple[int, ...]) -> Weight:
    return Weight(name, shape[0] if len(shape) > 1 else 1, shape[-1])
