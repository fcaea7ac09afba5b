"""How near automatic depth comes to the best fixed one when every drafted token takes a pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import fmean

import pytest

from nextn.speculate import Committed, DepthController, Draft, DraftTime, Load, Prospect, StepTime

MOST = 8
CLAIMED = 0.6
PASS = 0.1  # of a step of one row
SECONDS = 0.05  # of that
TOKENS = 400
TEXTS = 12

Chance = Callable[[float, int], float]
"""Of a token, given those before it: by the share of the text that is written, and its index."""


def cost(rows: int) -> float:
    return 1 + 0.12 * (rows - 1)


class ScriptedText:
    """A text whose drafts are right where a script says so, whatever they claim."""

    def __init__(self, chance: Chance, seed: int) -> None:
        rng = random.Random(seed)
        self.right = [
            [rng.random() < chance(at / TOKENS, index) for index in range(MOST)]
            for at in range(TOKENS)
        ]
        self.noise = random.Random(seed + 1000)
        self.load = Load([1], 1)

    def fixed(self, depth: int) -> float:
        """What the text costs at a fixed depth, in steps of plain decoding."""
        at, total = 0, 0.0
        while at < TOKENS:
            drafted = min(depth, TOKENS - at - 1)
            at += 1 + self._accepted(at, drafted)
            total += cost(1 + drafted) + PASS * drafted
        return total

    def automatic(self) -> float:
        """What it costs if a controller decides."""
        controller = DepthController(MOST)
        controller.prime(
            [StepTime(rows, 0, SECONDS * cost(rows)) for rows in (1, 2, 4, 8, 16)] * 3,
            [DraftTime(passes, SECONDS * PASS * passes) for passes in (1, 4)],
        )
        at, total = 0, 0.0
        while at < TOKENS:
            draft = self._chain(controller, at)
            depth = controller.choose([draft], self.load)[0]
            accepted = self._accepted(at, depth)
            seconds = SECONDS * cost(1 + depth)
            total += cost(1 + depth) + PASS * draft.passes
            verified = draft.cut(depth) if depth else None
            drafts = [draft] if draft.tokens else []
            part = Committed(1, [1] * (1 + accepted), 1, verified, accepted, drafts)
            slow = 1 + abs(self.noise.gauss(0, 0.02))
            controller.observe(self.load, 1 + depth, seconds * slow, [part])
            at += 1 + accepted
        return total

    def _chain(self, controller: DepthController, at: int) -> Draft:
        room = min(MOST, TOKENS - at - 1)
        if room <= 0:
            return Draft()
        (limit,), least = controller.plan(self.load, [Prospect(1, room, remaining=TOKENS - at)])
        tokens: list[int] = []
        product = 1.0
        while len(tokens) < limit and (not tokens or product >= least):
            tokens.append(1 if self.right[at][len(tokens)] else 0)
            product *= CLAIMED
        draft = Draft(tokens, [CLAIMED] * len(tokens), "head", len(tokens))
        if tokens:
            controller.observe_drafts({1: limit}, [draft], SECONDS * PASS * len(tokens))
        return draft

    def _accepted(self, at: int, depth: int) -> int:
        right = self.right[at][:depth]
        return right.index(False) if False in right else len(right)


def of_best(chance: Chance) -> float:
    """The speed of automatic depth, in units of that of the fixed depth that suits best."""
    texts = [ScriptedText(chance, seed) for seed in range(TEXTS)]
    best = min(fmean(text.fixed(depth) for text in texts) for depth in range(MOST + 1))
    return best / fmean(text.automatic() for text in texts)


@pytest.mark.parametrize(
    ("chance", "share"),
    [
        (lambda part, index: max(0.9 - 0.1 * index, 0.05), 0.97),
        (lambda part, index: 0.85, 0.94),
        (lambda part, index: 0.6, 0.97),
        (lambda part, index: 0.3, 0.97),
        (lambda part, index: 0.0, 0.98),
    ],
    ids=["falling", "0.85", "0.6", "0.3", "0"],
)
def test_drafts_of_lasting_quality(chance: Chance, share: float) -> None:
    assert of_best(chance) > share


@pytest.mark.parametrize(("before", "after"), [(0.85, 0.15), (0.15, 0.85)])
def test_where_drafts_change_no_fixed_depth_is_as_good(before: float, after: float) -> None:
    assert of_best(lambda part, index: before if part < 0.5 else after) > 1.02
