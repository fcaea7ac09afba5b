"""Puts observers into a plan: operations that sum up the squares of what matrices are given."""

from __future__ import annotations

from dataclasses import replace

from nextn.plan.operations import Linear, Logits, Observe, Operation, Plan


def observe(plan: Plan) -> Plan:
    """Observe the inputs of every matrix of a plan, that of the logits included.

    The results of the plan stay the same. The input of the logits is observed for all rows, also
    for those that want none.

    Args:
        plan: fused or not; matrices that share an input are observed together where they are one
            operation.
    """
    operations: list[Operation] = []
    for op in plan.operations:
        if isinstance(op, Linear):
            operations.append(Observe(op.x, tuple(weight.name for weight in op.weights), op.norm))
        elif isinstance(op, Logits):
            operations.append(Observe(op.x, (op.weight.name,), op.norm))
        operations.append(op)
    return replace(plan, operations=tuple(operations))
