"""Checks that an importance matrix belongs to a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nextn.errors import FileFormatError
from nextn.files.imatrix import ImportanceMatrix, InputSquares
from nextn.tools.quantise.plan import Shaped, TensorPlan


def matching_entries(
    matrix: ImportanceMatrix, tensors: Mapping[str, Shaped]
) -> dict[str, InputSquares]:
    """The entries for a model's tensors.

    A few entries without a tensor are normal: those of a head that was taken out, for example.

    Args:
        matrix: what was read.
        tensors: of the model.

    Raises:
        FileFormatError: an entry of another width than the tensor's rows, or of another number of
            experts; or most entries are of tensors that the model does not have.
    """
    found = {name: entry for name, entry in matrix.entries.items() if name in tensors}
    if 2 * len(found) < len(matrix.entries):
        strange = next(name for name in matrix.entries if name not in found)
        raise FileFormatError(
            matrix.path,
            f"tensor {strange}",
            f"and {len(matrix.entries) - len(found) - 1} others are not in the model, which has "
            f"{len(found)} of them; this importance matrix is of another model",
        )
    for name, entry in found.items():
        shape = tensors[name].shape
        expected = (math.prod(shape[:-2]), shape[-1])
        if entry.sums.shape != expected:
            raise FileFormatError(
                matrix.path,
                f"tensor {name}",
                f"is of {entry.sums.shape[0]} x {entry.sums.shape[1]} inputs, but the model's has "
                f"{expected[0]} x {expected[1]}; this importance matrix is of another model",
            )
    return found


def importance_notes(
    matrix: ImportanceMatrix, entries: Mapping[str, InputSquares], plans: Sequence[TensorPlan]
) -> list[str]:
    """What to say about entries that are missing, or not used."""
    notes = []
    changing = [plan for plan in plans if plan.changes]
    without = [plan.name for plan in changing if plan.name not in entries]
    if without:
        notes.append(
            f"{len(without)} of {len(changing)} tensors have no entry in the importance matrix, "
            f"such as {without[0]}; their columns count alike"
        )
    unused = len(matrix.entries) - len(entries)
    if unused:
        notes.append(f"{unused} entries of the importance matrix are of tensors not in the model")
    return notes
