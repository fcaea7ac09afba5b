import random

import pytest

from nextn.speculate.costs import STALE_STEPS, StepCosts, StepTime, prior_cost

TRUE = {1: 4.0e-3, 2: 4.2e-3, 4: 4.6e-3, 8: 9.0e-3}


def measured(
    steps: int = 400, noise: float = 0.0, spikes: float = 0.0, drift: float = 0.0, seed: int = 0
) -> StepCosts:
    rng = random.Random(seed)
    costs = StepCosts()
    for step in range(steps):
        rows = rng.choice(list(TRUE))
        seconds = TRUE[rows] * (1 + drift * step) * (1 + abs(rng.gauss(0, noise)))
        costs.observe(rows, seconds * (5.0 if rng.random() < spikes else 1.0))
    return costs


def ratio(costs: StepCosts, rows: int) -> float:
    return costs.cost(rows) / costs.cost(1)


def test_the_assumed_costs_hold_until_something_is_measured() -> None:
    costs = StepCosts()
    assert [costs.cost(rows) for rows in (1, 2, 9)] == [prior_cost(1), prior_cost(2), prior_cost(9)]
    costs.observe(1, 0.02)
    assert ratio(costs, 9) == pytest.approx(prior_cost(9))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("noise", "spikes", "drift", "tolerance"),
    [
        (0.0, 0.0, 0.0, 0.005),
        (0.03, 0.0, 0.0, 0.03),
        (0.03, 0.03, 0.0, 0.05),
        (0.03, 0.0, 0.005, 0.05),
    ],
)
def test_ratios_are_learned_through_noise_spikes_and_drift(
    seed: int, noise: float, spikes: float, drift: float, tolerance: float
) -> None:
    costs = measured(noise=noise, spikes=spikes, drift=drift, seed=seed)
    for rows, seconds in TRUE.items():
        assert ratio(costs, rows) == pytest.approx(seconds / TRUE[1], rel=tolerance)


def test_unmeasured_row_counts_are_interpolated() -> None:
    costs = measured()
    assert ratio(costs, 6) == pytest.approx((TRUE[4] + TRUE[8]) / 2 / TRUE[1], rel=0.01)
    assert ratio(costs, 16) == pytest.approx(TRUE[8] / TRUE[1] * prior_cost(16) / prior_cost(8))


def test_cost_never_falls_with_rows() -> None:
    costs = StepCosts()
    for _ in range(20):
        costs.observe(1, 4.0e-3)
        costs.observe(3, 7.0e-3)
        costs.observe(4, 5.0e-3)
    curve = [costs.cost(rows) for rows in range(1, 12)]
    assert curve == sorted(curve)


def test_a_long_run_of_one_row_count_leaves_the_ratios_alone() -> None:
    costs = measured()
    before = ratio(costs, 8)
    for step in range(2000):
        costs.observe(1, TRUE[1] * (1 + step / 1000))
    assert ratio(costs, 8) == pytest.approx(before, rel=0.03)


def test_a_lasting_change_of_a_ratio_is_learned() -> None:
    costs = measured(noise=0.02)
    rng = random.Random(9)
    for _ in range(300):
        rows = rng.choice([1, 8])
        costs.observe(rows, TRUE[1] * (1.0 if rows == 1 else 1.2))
    assert ratio(costs, 8) == pytest.approx(1.2, rel=0.06)


def test_hope_grows_with_age() -> None:
    costs = measured()
    assert costs.hoped(8) == costs.cost(8)
    assert costs.hoped(30) < costs.cost(30)
    for _ in range(STALE_STEPS):
        costs.observe(1, TRUE[1])
    once = costs.hoped(8) / costs.cost(8)
    for _ in range(STALE_STEPS):
        costs.observe(1, TRUE[1])
    assert costs.hoped(8) / costs.cost(8) < once < 1


def with_attention(rows: int, context: int) -> float:
    return TRUE[rows] + 1.0e-6 * context * (1 + 0.5 * (rows - 1))


def primed() -> StepCosts:
    costs = StepCosts()
    steps = [(1, 0), (2, 0), (4, 0), (8, 0), (1, 1024), (8, 1024)]
    slow = (1.0, 1.4, 1.01)  # one of three was disturbed
    costs.prime([StepTime(*step, with_attention(*step) * by) for by in slow for step in steps])
    return costs


def test_measurements_at_load_tell_the_costs_by_rows_and_context() -> None:
    costs = primed()
    unit = costs.cost(1)
    for rows in TRUE:
        for context in (0, 500, 4000):
            expected = with_attention(rows, context) / with_attention(1, 0)
            assert costs.cost(rows, context) / unit == pytest.approx(expected, rel=0.03)
    assert costs.measurements(1) == 3
    assert costs.hoped(8) == costs.cost(8)


def test_nothing_is_learned_from_measurements_without_a_plain_step() -> None:
    costs = StepCosts()
    costs.prime([])
    costs.prime([StepTime(2, 0, 0.1)])
    assert costs.largest == 0


def test_context_that_grows_changes_no_ratio() -> None:
    costs = primed()
    before = [costs.cost(rows) / costs.cost(1) for rows in TRUE]
    for step in range(2000):
        rows = 1 if step % 10 else 8
        costs.observe(rows, with_attention(rows, step), step)
    after = [costs.cost(rows) / costs.cost(1) for rows in TRUE]
    assert after == pytest.approx(before, rel=0.03)
    assert costs.cost(8, 2000) / costs.cost(1, 2000) == pytest.approx(
        with_attention(8, 2000) / with_attention(1, 2000), rel=0.05
    )


def test_the_curve_is_drawn_anew_when_a_ratio_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = StepCosts()
    for _ in range(40):
        for rows in (1, 2, 4):
            costs.observe(rows, 0.01 * (1 + 0.1 * rows))
    costs.cost(2)
    drawn = []
    draw = StepCosts._monotone_curve
    monkeypatch.setattr(StepCosts, "_monotone_curve", lambda self: (drawn.append(1), draw(self))[1])
    for _ in range(64):
        for rows in (1, 2, 4):
            costs.observe(rows, 0.01 * (1 + 0.1 * rows))
            costs.cost(rows)
    assert len(drawn) < 5
    for _ in range(100):
        costs.observe(1, 0.011)
        costs.observe(4, 0.022)
    assert costs.cost(4) / costs.cost(1) == pytest.approx(2.0, rel=0.05)
