import random

import pytest

from nextn.speculate import Draft
from nextn.speculate.draft_costs import DraftCosts, DraftWork

CALL, PASS, CHAIN, ROW = 0.04, 0.13, 0.03, 0.008


def true_cost(work: DraftWork) -> float:
    return CALL + PASS * work.passes + CHAIN * work.further + ROW * work.caught_up


def learned(noise: float, spikes: float, seed: int, count: int = 200) -> DraftCosts:
    rng = random.Random(seed)
    costs = DraftCosts()
    for _ in range(count):
        passes, chains = rng.randint(1, 4), rng.randint(1, 3)
        work = DraftWork(passes, rng.randint(0, (chains - 1) * passes), rng.choice([1, 2, 3, 40]))
        slow = (1 + rng.gauss(0, noise)) * (6.0 if rng.random() < spikes else 1.0)
        costs.observe(work, true_cost(work) * slow)
    return costs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("noise", "spikes", "within"), [(0, 0, 0.04), (0.05, 0.0, 0.06), (0.05, 0.03, 0.15)]
)
def test_the_cost_of_any_work_is_learned(
    noise: float, spikes: float, within: float, seed: int
) -> None:
    costs = learned(noise, spikes, seed)
    for work in (DraftWork(1, 0, 1), DraftWork(4, 0, 2), DraftWork(3, 6, 4), DraftWork(1, 0, 40)):
        assert costs.of(work) == pytest.approx(true_cost(work), rel=within)


def test_equal_calls_tell_their_sum_and_no_part_falls_below_zero() -> None:
    costs = DraftCosts()
    work = DraftWork(2, 0, 2)
    for _ in range(100):
        costs.observe(work, 0.05)  # a quarter of what is assumed
    assert costs.of(work) == pytest.approx(0.05, rel=0.1)
    assert min(costs.call, costs.one_pass, costs.chain, costs.row) >= 0.0


def test_costs_that_change_are_followed() -> None:
    costs = learned(0.0, 0.0, 0)
    work = DraftWork(3, 0, 3)
    for _ in range(150):
        costs.observe(work, 2 * true_cost(work))
    assert costs.of(work) == pytest.approx(2 * true_cost(work), rel=0.05)


def test_work_is_that_of_all_chains_together() -> None:
    drafts = [Draft([1], [0.5], "head", 2, 5), Draft([1, 2, 3], [0.5] * 3, "head", 3, 1), Draft()]
    assert DraftWork.of(drafts) == DraftWork(3, 2, 6)
    assert DraftWork.of([]) == DraftWork()
