"""Auto depth against the best fixed depths, on machines of known costs; see `Simulation`."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable

import pytest

from nextn.speculate import SuffixDrafter, Switch
from tests.support.virtual_machine import (
    Acceptance,
    Machine,
    Simulation,
    changing,
    falling,
    fixed_rate,
    flat,
    table_cost,
)

DEPTHS = range(13)
SCRIPTS = {
    "falling": falling(0.9, 0.1),
    "0.6": flat(0.6),
    "0.3": flat(0.3),
}
MACHINES = list(itertools.product([0.06, 0.1, 0.15], [0.0, 0.05]))


def best_rate(machine: Machine, script: Acceptance) -> float:
    acceptance = [script(index, 0) for index in DEPTHS]
    return max(fixed_rate(machine, acceptance, depth) for depth in DEPTHS)


@pytest.mark.parametrize(("one_pass", "noise"), MACHINES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_auto_is_as_fast_as_the_best_fixed_depth(
    script: str, one_pass: float, noise: float
) -> None:
    ratios = []
    for seed in range(3):
        machine = Machine(one_pass=one_pass, noise=noise, seed=seed)
        simulation = Simulation(machine, [SCRIPTS[script]], seed=seed)
        ratios.append(simulation.run(4000) / best_rate(machine, SCRIPTS[script]))
    assert statistics.mean(ratios) > 0.97


@pytest.mark.parametrize(("one_pass", "noise"), MACHINES)
@pytest.mark.parametrize("chance", [0.0, 0.05, 0.15])
def test_where_drafts_fail_auto_is_as_fast_as_plain_decoding(
    chance: float, one_pass: float, noise: float
) -> None:
    machine = Machine(one_pass=one_pass, noise=noise)
    simulation = Simulation(machine, [flat(chance)])
    assert simulation.run(2000) > 0.99
    assert simulation.run(2000) > 0.99


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (falling(0.9, 0.1), flat(0.0)),
        (flat(0.0), falling(0.9, 0.1)),
        (flat(0.8), flat(0.3)),
        (flat(0.3), flat(0.8)),
    ],
)
def test_a_change_in_the_middle_is_followed(first: Acceptance, second: Acceptance) -> None:
    half = 1500
    rates = []
    for seed in range(4):
        machine = Machine(noise=0.05, seed=seed)
        simulation = Simulation(machine, [changing(first, second, half + 16)], seed=seed)
        rates.append(simulation.run(2 * half))
    rate = statistics.mean(rates)
    # Each half at its own best depth, which no fixed depth reaches.
    best = 2 / (1 / best_rate(machine, first) + 1 / best_rate(machine, second))
    assert rate > 0.96 * best
    fixed = max(
        2 / sum(1 / fixed_rate(machine, [s(i, 0) for i in DEPTHS], d) for s in (first, second))
        for d in DEPTHS
    )
    assert rate > fixed


def test_a_text_that_becomes_predictable_has_drafts_again_soon() -> None:
    waits = []
    for seed in range(10):
        machine = Machine(noise=0.05, seed=seed)
        simulation = Simulation(machine, [changing(flat(0.0), flat(0.9), 2000)], seed=seed)
        simulation.run(2000)
        steps = len(simulation.depths)
        simulation.run(600)
        deep = [depth > 1 for depth in simulation.depths[steps:]]
        waits.append(deep.index(True) if True in deep else 600)
    assert statistics.median(waits) < 80


CATEGORIES = {
    "code": falling(0.9, 0.05),
    "prose": flat(0.35),
    "data": flat(0.9),
    "chat": falling(0.65, 0.05),
    "noise": flat(0.1),
}


@pytest.mark.parametrize("one_pass", [0.06, 0.15])
def test_a_mixture_is_as_fast_as_the_best_fixed_depth_of_each_category(one_pass: float) -> None:
    machine = Machine(one_pass=one_pass, noise=0.05)
    # As real heads do, this one knows something of its chances.
    simulation = Simulation(machine, [flat(0.5)], spread=0.5)
    times = dict.fromkeys(CATEGORIES, 0.0)
    tokens = 400
    rounds = 20
    for _ in range(rounds):
        for name, script in CATEGORIES.items():
            simulation.start([script])
            times[name] += tokens / simulation.run(tokens)
    ratios = [
        rounds * tokens / times[name] / best_rate(machine, script)
        for name, script in CATEGORIES.items()
    ]
    # Each text is short, and begins with what was learned from others.
    assert min(ratios) > 0.94
    assert statistics.mean(ratios) > 0.98
    pooled = rounds * tokens * len(CATEGORIES) / sum(times.values())
    fixed = [
        len(CATEGORIES)
        / sum(fixed_rate(machine, [s(i, 0) for i in DEPTHS], d) ** -1 for s in CATEGORIES.values())
        for d in DEPTHS
    ]
    assert pooled > 1.05 * max(fixed)


def test_rows_are_shared_out_among_sequences_by_what_they_bring() -> None:
    scripts = [flat(0.9), flat(0.3), flat(0.0), falling(0.8, 0.1)]
    machine = Machine(noise=0.05)

    def rate(depths: tuple[int, ...]) -> float:
        tokens = len(scripts) + sum(
            math.prod(script(j, 0) for j in range(i + 1))
            for script, depth in zip(scripts, depths, strict=True)
            for i in range(depth)
        )
        longest = max(depths)
        cost = table_cost(len(scripts) + sum(depths), 0)
        cost += (machine.call if longest else 0) + machine.one_pass * longest
        cost += machine.row * tokens
        return tokens / (cost + machine.chain * (sum(depths) - longest))

    best = max(map(rate, itertools.product(range(8), range(3), range(2), range(5))))
    simulation = Simulation(machine, scripts)
    assert simulation.run(12_000) > 0.94 * best
    # A head that fails in some sequences is useful in others.
    assert simulation.speculation.useless is None


@pytest.mark.parametrize(
    ("claims", "least"), [(lambda chance: 0.95, 0.9), (lambda chance: 0.6 * chance, 0.95)]
)
def test_wrong_claims_of_a_head_are_corrected(
    claims: Callable[[float], float], least: float
) -> None:
    for script in SCRIPTS.values():
        machine = Machine(seed=1)
        rate = Simulation(machine, [script], seed=1, claims=claims).run(6000)
        assert rate > least * best_rate(machine, script)


def test_a_useless_head_is_given_up() -> None:
    machine = Machine(one_pass=0.06)
    simulation = Simulation(machine, [flat(0.0)])
    assert simulation.run(8000) > 0.99
    useless = simulation.speculation.useless
    assert useless is not None
    assert (useless.drafter, useless.accepted) == ("head", 0)
    chains = simulation.head.chains
    assert simulation.run(1000) == pytest.approx(1.0)
    assert simulation.head.chains == chains
    # New texts do not wake it either, not even on request.
    simulation.draft = 3
    simulation.start([flat(0.9)])
    simulation.run(100)
    assert simulation.head.chains == chains
    assert simulation.head.filled == {}


def test_a_head_that_was_not_asked_for_long_is_asked_again() -> None:
    # The text repeats itself for so long that catching up costs several steps.
    period = 50
    script = flat(0.9)
    simulation = Simulation(
        Machine(),
        [script],
        others=[SuffixDrafter()],
        token_of=lambda sequence, position: (
            position % period if position < 3000 else (position * 7919) % 30_011
        ),
        prompt=4 * period,
    )
    simulation.run(2700)
    assert simulation.head.behind(1) > 1000
    steps = len(simulation.depths)
    simulation.run(2500)
    assert statistics.mean(simulation.depths[steps + 200 :]) > 2


def test_suffix_drafts_replace_the_head_where_they_promise_more() -> None:
    machine = Machine()

    def token_of(sequence: int, position: int) -> int:
        return position % 40 if position // 400 % 2 else (position * 7919) % 30_011

    simulation = Simulation(
        machine, [flat(0.7)], others=[SuffixDrafter()], token_of=token_of, prompt=80
    )
    rate = simulation.run(8000)
    alone = best_rate(machine, flat(0.7))
    assert rate > 1.3 * alone
    # Where the text is new, the head drafts as it would alone.
    assert simulation.head.chains > 1000


def test_what_drafts_were_worth_is_remembered_while_none_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Simulation(Machine(), [flat(0.8), flat(0.8)])
    simulation.run(200)
    monkeypatch.setattr(Switch, "drafts", lambda *_: False)
    simulation.step()
    assert simulation.depths[-1] == 0
    assert all(run.sequence.id in simulation.controller._history for run in simulation.runs)


def test_a_prompt_is_not_read_for_drafts_that_its_text_will_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Simulation(Machine(), [flat(0.8), flat(0.8), flat(0.8)])
    # The third one reads its prompt still; two sequences may draft, and three may not.
    reading = simulation.runs[2]
    reading.completes = False
    monkeypatch.setattr(Switch, "drafts", lambda _, sequences: sequences < 3)
    simulation.step()
    assert reading.sequence.id not in simulation.head.length
    assert simulation.depths == [0]


@pytest.mark.parametrize("draft", [4, "off"])
def test_texts_of_a_fixed_depth_say_nothing_about_the_pace_of_others(draft: int | str) -> None:
    simulation = Simulation(Machine(), [flat(0.9)], draft=draft)
    simulation.run(500)
    history = simulation.controller._history
    assert history.pace([-1]) == 1.0
    simulation.draft = "auto"
    simulation.start([flat(0.9)])
    simulation.run(500)
    assert history.pace([-1]) > 2.0


def test_steps_in_which_nobody_may_draft_say_nothing_about_the_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Simulation(Machine(), [flat(0.9), flat(0.9)])
    simulation.run(500)
    before = simulation.controller._history.pace([-1, -2])
    monkeypatch.setattr(Switch, "drafts", lambda *_: False)
    simulation.run(300)
    assert simulation.controller._history.pace([-1, -2]) == before > 3.0
