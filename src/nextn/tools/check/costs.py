"""What a head costs on this machine, and what it is worth with the acceptance that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING

from nextn.backends import Executor
from nextn.engine.calibrate import measure_drafts, measure_steps
from nextn.engine.memory import MemoryNeed
from nextn.model_size import size_model
from nextn.speculate import StepTime
from nextn.speculate.costs import StepCosts

if TYPE_CHECKING:
    from nextn.models.nextn_head import HeadedModel

_ROUNDS = 5
_WORTH = 1.05  # a smaller speed-up is not worth the memory


@dataclass(frozen=True, slots=True)
class DepthEstimate:
    """What is to be expected of a fixed number of drafted tokens per step.

    Attributes:
        depth: the number.
        tokens: tokens that a step gives on average.
        cost: of drafting and checking, in plain steps.
        speed_up: one divided by the other.
    """

    depth: int
    tokens: float
    cost: float
    speed_up: float


@dataclass(frozen=True, slots=True)
class HeadCosts:
    """What a head costs.

    Attributes:
        weight_bytes: memory of its weights, as they are packed.
        cache_bytes: of its keys, values and hidden states, for the context below.
        working_bytes: of the values of a step.
        context: tokens that it was computed for.
        step_seconds: time of a plain step.
        draft_seconds: time to draft one token.
        estimates: by depth; none if the machine gave no times.
        measured_speed_up: speed of the texts with automatic drafts over that without; they include
            what is copied from the text itself.
    """

    weight_bytes: int
    cache_bytes: int
    working_bytes: int
    context: int
    step_seconds: float
    draft_seconds: float
    estimates: tuple[DepthEstimate, ...]
    measured_speed_up: float | None

    @property
    def best(self) -> DepthEstimate | None:
        """The fixed depth that is expected to be fastest, if any is faster than none."""
        best = max(self.estimates, key=lambda one: one.speed_up, default=None)
        return best if best is not None and best.speed_up >= _WORTH else None

    @property
    def recommendation(self) -> str:
        """Which setting to use here."""
        if not self.estimates:
            return "--mtp auto"
        if self.best is None:
            return "--mtp off: at no depth do drafts pay on this machine"
        return f"--mtp auto (as a fixed number, {self.best.depth})"


def measure_costs(
    model: HeadedModel,
    executor: Executor,
    acceptance: Sequence[float],
    *,
    cache_type: str,
    measured_speed_up: float | None = None,
) -> HeadCosts:
    """Measure times, and compute the rest.

    Args:
        model: trunk and head, described.
        executor: of the model; the contents of its cache are lost.
        acceptance: share of right drafts by depth, of those all before which were right.
        cache_type: of the executor.
        measured_speed_up: of texts that were written.
    """
    own, without = (
        size_model(model.checkpoint, executor.context_length, "cpu", 1, cache_type, head).need
        for head in (model, None)
    )
    steps: dict[tuple[int, int], list[float]] = {}
    drafts: dict[int, list[float]] = {}
    # In turn, so that the machine's moods hit all alike.
    for _ in range(_ROUNDS):
        for time in measure_steps(executor):
            steps.setdefault((time.context, time.rows), []).append(time.seconds)
        for draft in measure_drafts(executor):
            drafts.setdefault(draft.passes, []).append(draft.seconds)
    if not steps or len(drafts) < 2:
        return _costs(own, without, executor, 0.0, 0.0, (), measured_speed_up)
    costs = StepCosts()
    costs.prime(
        StepTime(rows, context, median_low(seconds)) for (context, rows), seconds in steps.items()
    )
    step = median_low(steps[min(steps)])  # one row, at the start of a text
    (shallow, fewer), (deep, more) = sorted(
        (passes, median_low(seconds)) for passes, seconds in drafts.items()
    )
    further = max(more - fewer, 0.0) / (deep - shallow)
    estimates = []
    tokens, product = 1.0, 1.0
    for depth, share in enumerate(acceptance, 1):
        product *= share
        tokens += product
        cost = costs.cost(1 + depth) + (fewer + (depth - shallow) * further) / step
        estimates.append(DepthEstimate(depth, tokens, cost, tokens / cost))
    return _costs(own, without, executor, step, fewer, tuple(estimates), measured_speed_up)


def _costs(
    own: MemoryNeed,
    without: MemoryNeed,
    executor: Executor,
    step: float,
    draft: float,
    estimates: tuple[DepthEstimate, ...],
    measured_speed_up: float | None,
) -> HeadCosts:
    return HeadCosts(
        own.weights - without.weights,
        own.cache - without.cache,
        own.working - without.working,
        executor.context_length,
        step,
        draft,
        estimates,
        measured_speed_up,
    )
