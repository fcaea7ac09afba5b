from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nextn.plan import Add, Linear, NormWeight, Tracer, Weight, assign_buffers, fuse
from nextn.plan.operations import Plan, inputs_of, outputs_of


def random_plan(choices: list[int]) -> Plan:
    """A plan whose operations read values chosen by the list, wherever they were made."""
    step = Tracer()
    values = [step.embed(Weight("table", 8, 4))]
    for n, choice in enumerate(choices):
        x = values[choice % len(values)]
        y = values[choice // 7 % len(values)]
        match choice % 3:
            case 0:
                values.append(step.linear(x, Weight(f"w{n}", 4, 4)))
            case 1:
                values.append(step.norm(x, NormWeight(Weight(f"n{n}", 1, 4), 1e-5)))
            case _:
                values.append(step.add(x, y))
    step.logits(values[-1], Weight("output", 8, 4))
    return step.plan()


@given(st.lists(st.integers(0, 10_000), max_size=30), st.booleans())
def test_a_buffer_is_never_overwritten_before_its_last_reader(
    choices: list[int], fused: bool
) -> None:
    plan = random_plan(choices)
    plan = fuse(plan) if fused else plan
    buffers = assign_buffers(plan)
    holds: dict[int, int] = {}
    for op in plan.operations:
        for value in inputs_of(op):
            assert holds[buffers.buffer_of[value.index]] == value.index
        for out in outputs_of(op):
            buffer = buffers.buffer_of[out.index]
            assert buffers.widths[buffer] == out.width
            shared = [v for v in inputs_of(op) if buffers.buffer_of[v.index] == buffer]
            for value in shared:
                assert isinstance(op, Add) or value == op.residual
                assert not isinstance(op, Linear) or value != op.x
            holds[buffer] = out.index


def test_a_deep_plan_needs_no_more_buffers_than_a_shallow_one() -> None:
    def buffers(depth: int) -> int:
        step = Tracer()
        x = step.embed(Weight("table", 8, 4))
        for n in range(depth):
            h = step.norm(x, NormWeight(Weight(f"n{n}", 1, 4), 1e-5))
            x = step.add(x, step.linear(h, Weight(f"w{n}", 4, 4)))
        step.logits(x, Weight("output", 8, 4))
        return len(assign_buffers(step.plan()).widths)

    assert buffers(4) == buffers(40) <= 3
