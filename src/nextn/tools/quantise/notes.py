"""What to say about a plan beside its table."""

from __future__ import annotations

from collections.abc import Sequence

from nextn.files.block_encoding import Q8_0
from nextn.files.block_formats import BlockType
from nextn.tools.quantise.plan import TensorPlan


def head_notes(plans: Sequence[TensorPlan], *, declared: int) -> list[str]:
    """What became of the prediction head; nothing if there is none, and none is declared.

    Args:
        plans: of all tensors.
        declared: blocks of a head that the metadata declare.
    """
    head = [plan for plan in plans if plan.head]
    if not head:
        if declared:
            blocks = f"{declared} block{'' if declared == 1 else 's'}"
            return [f"the metadata declare a prediction head of {blocks}, which is missing"]
        return []
    matrices = [plan for plan in head if len(plan.shape) > 1]
    formats = sorted({plan.target.name for plan in matrices})
    changed = sum(plan.changes for plan in head)
    notes = [
        f"the prediction head is kept: {len(head)} tensors, {changed} of them encoded anew, its "
        f"matrices are {', '.join(formats)}"
    ]
    coarse = [p for p in matrices if p.changes and _bits(p.target) < _bits(Q8_0)]
    if coarse:
        notes.append(
            f"{len(coarse)} matrices of the head, such as {coarse[0].name} ({coarse[0].reason}), "
            "are coarser than Q8_0: fewer drafts may be accepted; `nextn mtp check` measures it"
        )
    return notes


def fallback_notes(plans: Sequence[TensorPlan]) -> list[str]:
    """Which tensors get another format since their rows are not whole blocks of the wanted one."""
    wanted: dict[tuple[str, str], list[TensorPlan]] = {}
    for plan in plans:
        if plan.falls_back:
            wanted.setdefault((plan.wanted.name, plan.target.name), []).append(plan)
    return [
        f"{len(found)} tensors, such as {found[0].name}, become {target}: their rows are no "
        f"multiples of {found[0].wanted.elements}, as {name} needs them"
        for (name, target), found in wanted.items()
    ]


def _bits(block_type: BlockType) -> float:
    return 8 * block_type.bytes / block_type.elements
