"""How near automatic depth comes to the best fixed one in short texts, whatever drafts claim."""

from __future__ import annotations

from statistics import fmean

import pytest

from nextn.speculate import DraftTime, StepTime
from tests.support.virtual_machine import (
    PLAIN_SECONDS,
    Acceptance,
    Machine,
    ScriptedHead,
    Simulation,
    changing,
    falling,
    flat,
)

CLAIMED = 0.6
PASS = 0.1
PROMPT = 16
TOKENS = 400
TEXTS = 12


@pytest.fixture(autouse=True)
def reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drafter is one that never has anything to catch up with."""
    monkeypatch.setattr(ScriptedHead, "behind", lambda self, sequence: 0)


def cost(rows: int, context: float) -> float:
    del context
    return 1 + 0.12 * (rows - 1)


def rate(script: Acceptance, draft: str | int) -> float:
    """Tokens per time of a plain step, over several texts that each begin with nothing known."""
    times = []
    for seed in range(TEXTS):
        machine = Machine(PASS, call=0.0, row=0.0, step=cost, noise=0.02, seed=seed)
        simulation = Simulation(
            machine, [script], draft=draft, claims=lambda _: CLAIMED, seed=seed, prompt=PROMPT
        )
        simulation.speculation.prime(
            [StepTime(rows, 0, PLAIN_SECONDS * cost(rows, 0)) for rows in (1, 2, 4, 8, 16)] * 3,
            [DraftTime(passes, PLAIN_SECONDS * PASS * passes) for passes in (1, 4)],
        )
        times.append(1 / simulation.run(TOKENS))
    return 1 / fmean(times)


def of_best(script: Acceptance) -> float:
    """The speed of automatic depth, in units of that of the fixed depth that suits best."""
    return rate(script, "auto") / max(rate(script, depth) for depth in ("off", *range(1, 9)))


@pytest.mark.parametrize(
    ("script", "share"),
    [
        (falling(0.9, 0.1), 0.97),
        (flat(0.85), 0.94),
        (flat(0.6), 0.97),
        (flat(0.3), 0.97),
        (flat(0.0), 0.98),
    ],
    ids=["falling", "0.85", "0.6", "0.3", "0"],
)
def test_drafts_of_lasting_quality(script: Acceptance, share: float) -> None:
    assert of_best(script) > share


@pytest.mark.parametrize(("before", "after"), [(0.85, 0.15), (0.15, 0.85)])
def test_where_drafts_change_no_fixed_depth_is_as_good(before: float, after: float) -> None:
    assert of_best(changing(flat(before), flat(after), PROMPT + TOKENS // 2)) > 1.02
