import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nextn.speculate import Committed, DepthController, Draft, DraftTime, Load, Prospect, StepTime
from nextn.speculate.costs import prior_cost

ACCEPTANCE = st.lists(st.floats(0.0, 0.99), max_size=4)


def draft_of(acceptance: list[float]) -> Draft:
    return Draft([0] * len(acceptance), acceptance, "test")


def settled(cost: Callable[[int], float], rows: int, max_depth: int = 8) -> DepthController:
    """A controller that has measured every number of rows up to `rows`."""
    controller = DepthController(max_depth)
    for _ in range(5):
        for count in range(1, rows + 1):
            controller.observe(Load([1], 1), count, 0.004 * cost(count), [])
    return controller


def load(sequences: int, rows: int | None = None) -> Load:
    return Load(list(range(1, sequences + 1)), sequences if rows is None else rows)


def expected_tokens(acceptance: list[float], depth: int) -> float:
    return 1 + sum(math.prod(acceptance[: i + 1]) for i in range(depth))


def considered(acceptance: list[float]) -> int:
    """How many tokens may be verified: what follows a token with a chance below 1 % is left out."""
    chances = [math.prod(acceptance[: i + 1]) for i in range(len(acceptance))]
    return next((i + 1 for i, chance in enumerate(chances) if chance < 0.01), len(chances))


@settings(max_examples=200, deadline=None)
@example([[0.125, 0.0625, 0.5]], [0.0] * 15)
@given(
    st.lists(ACCEPTANCE, min_size=1, max_size=3),
    st.lists(st.floats(0.0, 0.6), min_size=15, max_size=15),
)
def test_depths_are_the_optimum_over_all_combinations(
    acceptances: list[list[float]], increments: list[float]
) -> None:
    curve = [1.0, *(1 + sum(increments[: i + 1]) for i in range(len(increments)))]
    controller = settled(lambda rows: curve[rows - 1], 16)
    drafts = [draft_of(acceptance) for acceptance in acceptances]
    base = len(drafts)

    def value(depths: tuple[int, ...]) -> float:
        """Tokens, less the price of time: so many tokens does plain decoding write in it."""
        tokens = sum(expected_tokens(a, d) for a, d in zip(acceptances, depths, strict=True))
        return tokens - base * curve[base + sum(depths) - 1] / curve[base - 1]

    depths = (range(considered(acceptance) + 1) for acceptance in acceptances)
    best = max(map(value, itertools.product(*depths)))
    chosen = tuple(controller.choose(drafts, load(base)))
    assert all(0 <= d <= len(a) for d, a in zip(chosen, acceptances, strict=True))
    if best > 0.01 * base:
        assert value(chosen) == pytest.approx(best, abs=0.004 * base)
    elif best < 0.003 * base:
        assert sum(chosen) == 0


def test_no_draft_means_depth_zero() -> None:
    assert DepthController().choose([draft_of([])], load(1)) == [0]


def test_more_tokens_than_max_depth_are_never_verified() -> None:
    controller = settled(lambda rows: 1.0, 12, max_depth=5)
    assert controller.choose([draft_of([0.99] * 9)], load(1)) == [5]


def test_prompt_rows_do_not_make_hopeless_drafts_look_cheap() -> None:
    # 100 prompt rows dwarf the price of a drafted row, but not what it takes from other work.
    controller = settled(prior_cost, 120)
    hopeless = draft_of([0.05] * 8)
    assert controller.choose([hopeless], load(1)) == [0]
    assert controller.choose([hopeless], load(1, 101)) == [0]
    assert controller.choose([draft_of([0.9] * 8)], load(1, 101))[0] > 3


class Simulation:
    """One sequence of steps with known costs and known acceptance."""

    def __init__(self, cost: Callable[[int], float], seed: int, noise: float = 0.02) -> None:
        self.cost = cost
        self.rng = random.Random(seed)
        self.noise = noise
        self.controller = DepthController(max_depth=8)

    def run(self, steps: int, claimed: float, true: float) -> tuple[float, list[int]]:
        """Speed against plain decoding (1: as fast), and the depths."""
        seconds, tokens, depths = 0.0, 0, []
        for _ in range(steps):
            draft = draft_of([claimed] * 8)
            depth = self.controller.choose([draft], load(1))[0]
            accepted = 0
            while accepted < depth and self.rng.random() < true:
                accepted += 1
            foreseen = accepted == depth and self.rng.random() < true
            seconds += self.cost(1 + depth)
            tokens += 1 + accepted
            depths.append(depth)
            slow = 1 + abs(self.rng.gauss(0, self.noise))
            slow *= self.rng.choice([1.5, 3, 8]) if self.rng.random() < 0.01 else 1.0
            part = Committed(1, [0] * (1 + accepted), 0 if foreseen else 1, None, accepted, [draft])
            part.drafted = draft.cut(depth) if depth else None
            took = 0.004 * self.cost(1 + depth) * slow
            self.controller.observe(load(1), 1 + depth, took, [part])
        return tokens * self.cost(1) / seconds, depths


def linear(slope: float) -> Callable[[int], float]:
    return lambda rows: 1 + slope * (rows - 1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("slope", [0.03, 0.12, 0.9])
@pytest.mark.parametrize("claimed", [0.0, 0.1, 0.5, 0.95])
def test_never_slower_when_every_draft_fails(claimed: float, slope: float, seed: int) -> None:
    simulation = Simulation(linear(slope), seed)
    simulation.run(1000, claimed, 0.0)
    speed, depths = simulation.run(3000, claimed, 0.0)
    assert speed > 0.99
    if claimed == 0.0:
        assert not any(depths)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("claimed", [0.0, 0.1, 0.5, 0.95])
def test_learning_that_drafts_fail_costs_a_few_steps(claimed: float, seed: int) -> None:
    speed, _ = Simulation(linear(0.12), seed).run(600, claimed, 0.0)
    assert 600 / speed - 600 < 12


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("slope", "acceptance"), [(0.01, 0.5), (0.12, 0.8), (0.12, 0.3), (0.3, 0.9), (0.9, 0.5)]
)
def test_speed_comes_close_to_the_optimum(slope: float, acceptance: float, seed: int) -> None:
    cost = linear(slope)
    ideal = max(expected_tokens([acceptance] * 8, d) / cost(1 + d) for d in range(9))
    speed, _ = Simulation(cost, seed).run(2000, acceptance, acceptance)
    assert speed > 0.95 * ideal


def test_depth_follows_acceptance_that_collapses_and_recovers() -> None:
    simulation = Simulation(linear(0.12), 0)
    _, good = simulation.run(500, 0.85, 0.85)
    _, bad = simulation.run(1000, 0.85, 0.0)
    _, recovered = simulation.run(2000, 0.85, 0.85)
    assert sum(good[-200:]) / 200 > 3
    assert sum(bad[-500:]) / 500 < 0.1
    assert sum(recovered[-200:]) / 200 > 3


def test_plain_decoding_is_measured_again_while_speculation_pays() -> None:
    # More context makes the plain step dearer, or the machine slows: all ratios need both sides.
    _, depths = Simulation(linear(0.05), 0).run(3000, 0.95, 0.95)
    assert 3 <= depths[100:].count(0) < 30


def test_costs_that_change_are_found_again_from_depth_zero() -> None:
    simulation = Simulation(linear(0.9), 1)
    _, before = simulation.run(800, 0.6, 0.6)
    simulation.cost = linear(0.02)
    _, after = simulation.run(4000, 0.6, 0.6)
    assert sum(before[-300:]) / 300 < 0.1
    assert sum(after[-300:]) / 300 > 2


def test_steps_with_prompt_rows_teach_no_costs() -> None:
    controller = settled(prior_cost, 8)
    draft = draft_of([0.6] * 8)
    before = controller.choose([draft], load(1))
    for _ in range(50):
        controller.observe(load(1, 2), 2, 5.0, [])
        controller.observe(load(1), 2, 0.0, [])
    assert controller.choose([draft], load(1)) == before


def test_context_makes_rows_dearer() -> None:
    controller = DepthController()
    near = [StepTime(rows, 0, 0.004 * (0.9 + 0.1 * rows)) for rows in range(1, 10)]
    far = [StepTime(rows, 1000, 0.004 * (0.9 + 0.6 * rows)) for rows in (1, 9)]
    controller.prime([*near, *far] * 3)
    draft = draft_of([0.7] * 8)
    assert controller.choose([draft], Load([1], 1, 0))[0] > 3
    assert controller.choose([draft], Load([1], 1, 1000))[0] == 2


@pytest.mark.parametrize(("seconds", "asks"), [(0.0004, True), (0.02, False)])
def test_drafts_cost_what_was_measured_at_load(seconds: float, asks: bool) -> None:
    controller = DepthController()
    steps = [StepTime(rows, 0, 0.004 * (0.9 + 0.1 * rows)) for rows in range(1, 10)]
    # One of them was slow, as the first call may be.
    drafts = [DraftTime(1, by * seconds) for by in (20, 1, 1, 1)]
    controller.prime([*steps, *steps, *steps], drafts)
    assert (controller.plan(load(1), [Prospect(1, 4, 0)])[0][0] > 0) is asks


def test_time_is_not_dearer_after_a_text_was_copied() -> None:
    controller = settled(prior_cost, 8)
    copied, nothing = draft_of([0.9] * 5), Draft()
    for _ in range(60):
        controller.choose([copied], load(1))
        controller.observe(load(1), 6, 0.0064, [Committed(1, [0] * 6, 1, copied, 5)])
        controller.choose([nothing], load(1))
        controller.observe(load(1), 1, 0.004, [Committed(1, [0], 1)])
    controller.choose([copied], load(1))
    (dear,) = controller.expected_values([draft_of([0.6])], load(1))
    controller.choose([nothing], load(1))
    assert controller.expected_values([draft_of([0.6])], load(1))[0] > dear + 0.1


def test_a_suffix_draft_that_promises_more_than_a_chain_is_not_paid_for() -> None:
    controller = settled(prior_cost, 8)
    weak, strong = draft_of([0.1]), draft_of([0.97] * 12)
    assert controller.plan(load(1), [Prospect(1, 12, 1, weak)])[0][0] > 0
    assert controller.plan(load(1), [Prospect(1, 12, 1, strong)])[0] == [0]


def test_what_does_not_pay_while_a_text_is_copied_may_pay_right_after_it() -> None:
    controller = settled(prior_cost, 8)
    copied = draft_of([0.9] * 7)
    for _ in range(60):
        controller.choose([copied], load(1))
        controller.observe(load(1), 8, 0.0074, [Committed(1, [0] * 8, 1, copied, 7)])
    copying, other = Prospect(1, 12, 1, draft_of([0.5])), Prospect(1, 12, 1)
    controller.plan(load(1), [other])  # a sequence that is new is looked at in any case
    assert controller.plan(load(1), [copying])[0] == [0]
    assert controller.plan(load(1), [other])[0][0] > 0


def test_the_longer_drafts_do_not_pay_the_less_often_they_are_thought_of() -> None:
    controller = settled(linear(0.9), 8)
    thought: list[int] = []
    for step in range(400):
        before = controller._rest
        assert controller.plan(load(1), [Prospect(1, 4, 1)])[0] == [0]
        if not before:
            thought.append(step)
        controller.observe(load(1), 1, 0.004, [Committed(1, [0], 1)])
    rests = [after - before for before, after in itertools.pairwise(thought)]
    assert rests[:2] == [3, 5]
    assert rests[-3:] == [33, 33, 33]


def test_catching_up_is_part_of_the_costs() -> None:
    assert settled(prior_cost, 8).plan(load(1), [Prospect(1, 4, 1)])[0][0] > 0
    assert settled(prior_cost, 8).plan(load(1), [Prospect(1, 4, 5000, remaining=8)])[0] == [0]


def test_a_prompt_is_read_for_all_drafts_that_may_follow() -> None:
    def depth(behind: int, remaining: int) -> int:
        prospect = Prospect(1, 4, behind, remaining=remaining)
        return settled(prior_cost, 8).plan(load(1), [prospect])[0][0]

    assert depth(1000, 1000) > 0
    assert depth(1000, 4) == 0
    assert depth(100_000, 1000) == 0


def test_room_and_max_depth_are_kept() -> None:
    controller = settled(lambda rows: 1.0, 16, max_depth=3)
    limits, least = controller.plan(load(3), [Prospect(1, 2), Prospect(2, 9), Prospect(3, 1)])
    assert limits == [2, 3, 1]
    assert 0 < least < 1
