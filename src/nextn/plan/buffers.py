"""Buffer assignment: which numbered buffer holds which value, and when one is used again."""

from __future__ import annotations

from dataclasses import dataclass

from nextn.plan.operations import (
    Add,
    Linear,
    Norm,
    Operation,
    Plan,
    Value,
    inputs_of,
    outputs_of,
)


@dataclass(frozen=True, slots=True)
class BufferPlan:
    """`widths[b]` is the width of buffer b; `buffer_of[value index]` the buffer of a value."""

    widths: tuple[int, ...]
    buffer_of: dict[int, int]


def assign_buffers(plan: Plan) -> BufferPlan:
    """Give each value a buffer, reusing a buffer once its value has been read for the last time.

    An output never shares a buffer with an input of the same operation, except with the residual
    that it is added to, element by element.
    """
    last_reader: dict[int, int] = {}
    for step, op in enumerate(plan.operations):
        for value in inputs_of(op):
            last_reader[value.index] = step
    widths: list[int] = []
    free: dict[int, list[int]] = {}
    buffer_of: dict[int, int] = {}
    for step, op in enumerate(plan.operations):
        dying = {v.index: v for v in inputs_of(op) if last_reader[v.index] == step}
        residual = _elementwise_input(op)
        for out in outputs_of(op):
            if residual is not None and residual.index in dying and residual.width == out.width:
                buffer_of[out.index] = buffer_of[residual.index]
                del dying[residual.index]
                residual = None
            elif free.get(out.width):
                buffer_of[out.index] = free[out.width].pop()
            else:
                buffer_of[out.index] = len(widths)
                widths.append(out.width)
        for index, value in dying.items():
            free.setdefault(value.width, []).append(buffer_of[index])
        for out in outputs_of(op):
            if out.index not in last_reader:
                free.setdefault(out.width, []).append(buffer_of[out.index])
    return BufferPlan(tuple(widths), buffer_of)


def _elementwise_input(op: Operation) -> Value | None:
    """The input that an operation may overwrite while it computes."""
    match op:
        case Linear():
            # Threads may still read x while others write the output.
            return op.residual if op.residual != op.x else None
        case Norm():
            return op.residual
        case Add():
            return op.a
        case _:
            return None
