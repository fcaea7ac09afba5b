"""Fusions: neighbouring operations that an executor does better in one pass.

Each rule is a function from a plan to a plan, and keeps the meaning exactly. A value is folded away
only if the operation that absorbs it is its only reader.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from nextn.plan.operations import (
    Activate,
    Add,
    Attend,
    HeadNorm,
    Linear,
    Logits,
    Norm,
    Operation,
    Plan,
    Rope,
    Value,
    inputs_of,
    outputs_of,
)


def fuse(plan: Plan) -> Plan:
    """Apply every fusion rule.

    - linears that share their input become one linear with several outputs;
    - a norm that only feeds a linear (or the logits) becomes its prologue;
    - a gated activation of a linear's two outputs becomes its epilogue;
    - an addition to a linear's or norm's result becomes its residual;
    - head norms and rotary embeddings before attention become part of it.
    """
    operations = list(plan.operations)
    for rule in (_share_inputs, _norm_prologues, _gated_linears, _residuals, _attention):
        operations = rule(operations)
    return replace(plan, operations=tuple(operations))


def _readers(operations: list[Operation]) -> Counter[int]:
    return Counter(value.index for op in operations for value in inputs_of(op))


def _writers(operations: list[Operation]) -> dict[int, Operation]:
    return {value.index: op for op in operations for value in outputs_of(op)}


def _without(operations: list[Operation], dropped: set[int]) -> list[Operation]:
    """The operations but those (by identity) that were absorbed by another."""
    return [op for op in operations if id(op) not in dropped]


def _share_inputs(operations: list[Operation]) -> list[Operation]:
    """Join plain linears that read the same value into the first of them."""
    groups: dict[int, list[Linear]] = {}
    for op in operations:
        if isinstance(op, Linear):
            groups.setdefault(op.x.index, []).append(op)
    result: list[Operation] = []
    for op in operations:
        if not isinstance(op, Linear):
            result.append(op)
        elif op is (group := groups[op.x.index])[0]:
            result.append(
                Linear(
                    tuple(out for member in group for out in member.outs),
                    op.x,
                    tuple(weight for member in group for weight in member.weights),
                    tuple(bias for member in group for bias in member.biases),
                )
            )
    return result


def _norm_prologues(operations: list[Operation]) -> list[Operation]:
    readers, writers = _readers(operations), _writers(operations)
    dropped: set[int] = set()
    result: list[Operation] = []
    for op in operations:
        if isinstance(op, Linear | Logits) and op.norm is None:
            source = writers.get(op.x.index)
            alone = readers[op.x.index] == 1
            if isinstance(source, Norm) and source.residual is None and alone:
                dropped.add(id(source))
                op = replace(op, x=source.x, norm=source.norm)
        result.append(op)
    return _without(result, dropped)


def _gated_linears(operations: list[Operation]) -> list[Operation]:
    readers = _readers(operations)
    activations = {(op.gate, op.up): op for op in operations if isinstance(op, Activate)}
    dropped: set[int] = set()
    result: list[Operation] = []
    for op in operations:
        if isinstance(op, Linear) and len(op.outs) == 2:
            gate, up = op.outs
            activation = activations.get((gate, up))
            if activation is not None and readers[gate.index] == readers[up.index] == 1:
                dropped.add(id(activation))
                op = replace(op, outs=(activation.out,), activation=activation.activation)
        result.append(op)
    return _without(result, dropped)


def _residuals(operations: list[Operation]) -> list[Operation]:
    """Replace `add` by the residual of the operation that computed one of its sides.

    The fused operation stands where the addition stood, since only there both sides are known.
    """
    readers, writers = _readers(operations), _writers(operations)
    dropped: set[int] = set()
    result: list[Operation] = []
    for op in operations:
        if isinstance(op, Add):
            for side, other in ((op.b, op.a), (op.a, op.b)):
                fused = _with_residual(writers.get(side.index), other, op.out)
                if fused is not None and readers[side.index] == 1:
                    dropped.add(id(writers[side.index]))
                    result.append(fused)
                    break
            else:
                result.append(op)
        else:
            result.append(op)
    return _without(result, dropped)


def _with_residual(source: Operation | None, residual: Value, out: Value) -> Operation | None:
    if isinstance(source, Norm) and source.residual is None:
        return replace(source, out=out, residual=residual)
    plain = isinstance(source, Linear) and len(source.outs) == 1 and source.activation is None
    if plain and isinstance(source, Linear) and source.residual is None:
        return replace(source, outs=(out,), residual=residual)
    return None


def _attention(operations: list[Operation]) -> list[Operation]:
    readers, writers = _readers(operations), _writers(operations)
    dropped: set[int] = set()

    def sole_writer(value: Value, heads: int) -> Rope | HeadNorm | None:
        """What turned or normed a query or key, if nobody else reads its input or its result.

        The input must have no other reader either, since the fused operation overwrites it.
        """
        writer = writers.get(value.index) if readers[value.index] == 1 else None
        if not isinstance(writer, Rope | HeadNorm) or writer.heads != heads:
            return None
        return writer if readers[writer.x.index] == 1 else None

    result: list[Operation] = []
    for op in operations:
        if isinstance(op, Attend) and op.rotary is None:
            match sole_writer(op.query, op.heads), sole_writer(op.key, op.kv_heads):
                case (Rope() as query_rope, Rope() as key_rope):
                    if query_rope.rotary == key_rope.rotary:
                        dropped |= {id(query_rope), id(key_rope)}
                        op = replace(
                            op, query=query_rope.x, key=key_rope.x, rotary=query_rope.rotary
                        )
            match sole_writer(op.query, op.heads), sole_writer(op.key, op.kv_heads):
                case (HeadNorm() as query_norm, HeadNorm() as key_norm):
                    dropped |= {id(query_norm), id(key_norm)}
                    op = replace(
                        op,
                        query=query_norm.x,
                        key=key_norm.x,
                        query_norm=query_norm.norm,
                        key_norm=key_norm.norm,
                    )
        result.append(op)
    return _without(result, dropped)
