"""Speculation on a machine of virtual time: known costs, scripted acceptance, no model.

`Simulation` drives `nextn.engine.speculation.Speculation` as the engine does. Its sequences write
scripted tokens; its head foresees them with given chances. The clock moves by the costs of a table,
in seconds of a step of plain decoding at the start of a text.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nextn.engine.speculation import Speculation
from nextn.sampling import Sampler, SamplingParams
from nextn.speculate import Committed, DepthController, Draft, Drafter, Want

Acceptance = Callable[[int, int], float]
"""Chance of a draft's token to be right if those before it are: (its index, its position)."""

PLAIN_SECONDS = 0.005
_SAMPLER = Sampler(SamplingParams(), 0, 100)
_TABLE = ((1, 1.0), (2, 1.07), (4, 1.2), (8, 1.5), (16, 2.4))


def table_cost(rows: int, context: float) -> float:
    """Steps like those measured on CPUs."""
    del context
    for (x0, y0), (x1, y1) in itertools.pairwise(_TABLE):
        if rows <= x1:
            return y0 + (y1 - y0) * (rows - x0) / (x1 - x0)
    return _TABLE[-1][1] * rows / _TABLE[-1][0]


def flat(chance: float) -> Acceptance:
    """The same acceptance for all tokens."""
    return lambda index, position: chance


def falling(first: float, by: float) -> Acceptance:
    """Acceptance that falls with the index in the draft."""
    return lambda index, position: max(first - by * index, 0.0)


def changing(first: Acceptance, second: Acceptance, at: int) -> Acceptance:
    """The first up to a position, the second from there on."""
    return lambda index, position: (first if position < at else second)(index, position)


@dataclass
class Machine:
    """What things cost, in steps of plain decoding, and what time it is."""

    one_pass: float = 0.1
    call: float = 0.02
    chain: float = 0.015
    row: float = 0.004
    step: Callable[[int, float], float] = table_cost
    noise: float = 0.0
    seed: int = 0
    now: float = 0.0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def clock(self) -> float:
        return self.now

    def spend(self, cost: float) -> float:
        """Let time pass; returns the seconds."""
        seconds = PLAIN_SECONDS * cost * max(1 + self._random.gauss(0, self.noise), 0.5)
        self.now += seconds
        return seconds


@dataclass
class FakeRequest:
    draft: str | int = "auto"


@dataclass
class FakeBlocks:
    length: int
    reserved: int = 0
    table: Any = field(default_factory=lambda: np.zeros(1, np.int32))

    def reserve(self, count: int) -> None:
        self.reserved = count


@dataclass
class FakeSequence:
    id: int
    acceptance: Acceptance
    request: FakeRequest
    tokens: list[int]
    remaining: int = 1_000_000
    sampler: Sampler = _SAMPLER


@dataclass
class FakeRun:
    """As much of `nextn.engine.step.Run` as speculation looks at."""

    sequence: FakeSequence
    blocks: FakeBlocks
    rows: int = 1
    completes: bool = True
    draft: Draft | None = None
    drafts: list[Draft] = field(default_factory=list)

    @property
    def drafted(self) -> list[int]:
        return [] if self.draft is None else self.draft.tokens


WRONG = 10**9
"""A token that no text has."""


class ScriptedHead:
    """A costly drafter that foresees tokens with the chances of its sequence's script.

    Args:
        machine: whose time its drafts take.
        seed: of what it gets right.
        spread: how much it knows of its own chances: a token's chance is the scripted one plus or
            minus as much as this times its distance from 0 and 1.
        claims: what it says of a chance; the truth by default.
        token_of: what sequences write at a position; `token_at` by default.
    """

    name = "head"
    free = False

    def __init__(
        self,
        machine: Machine,
        seed: int = 0,
        spread: float = 0.0,
        claims: Callable[[float], float] = lambda chance: chance,
        token_of: Callable[[int, int], int] | None = None,
    ) -> None:
        self.machine = machine
        self.token_of = token_of or token_at
        self.spread = spread
        self.claims = claims
        self.scripts: dict[int, Acceptance] = {}
        self.filled: dict[int, int] = {}
        self.length: dict[int, int] = {}
        self.chains = 0
        self.reserved: dict[int, Callable[[], int]] = {}
        self._random = random.Random(seed)

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        # The prompt is filled with its chunks.
        self.filled[sequence] = self.length[sequence] = len(tokens) - 1

    def close(self, sequence: int) -> None:
        del self.filled[sequence], self.length[sequence]

    def behind(self, sequence: int) -> int:
        return self.length[sequence] - self.filled[sequence]

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        drafts = []
        for want in wants:
            # The room for the drafted tokens and the one before them is reserved.
            assert 1 <= want.limit < self.reserved[want.sequence]()
            assert not want.prefix
            drafts.append(self._draft(want))
        work = [draft.passes for draft in drafts]
        machine = self.machine
        cost = machine.call + machine.one_pass * max(work)
        cost += machine.chain * (sum(work) - max(work))
        cost += machine.row * sum(draft.caught_up for draft in drafts)
        machine.spend(cost)
        self.chains += len(drafts)
        return drafts

    def observe(self, committed: Sequence[Committed]) -> None:
        for part in committed:
            self.length[part.sequence] += len(part.tokens)

    def _draft(self, want: Want) -> Draft:
        tokens: list[int] = []
        claimed: list[float] = []
        right, product = True, 1.0
        for index in range(want.limit):
            position = want.position + index
            chance = self.scripts[want.sequence](index, position)
            known = self.spread * min(chance, 1 - chance)
            chance += known if self._random.random() < 0.5 else -known
            right = right and self._random.random() < chance
            tokens.append(self.token_of(want.sequence, position) if right else WRONG)
            claimed.append(self.claims(chance))
            product *= claimed[-1]
            if product < want.least:
                break
        behind = self.behind(want.sequence)
        self.filled[want.sequence] = self.length[want.sequence]
        return Draft(tokens, claimed, self.name, len(tokens), behind)


def token_at(sequence: int, position: int) -> int:
    """What a sequence writes."""
    return (sequence * 1_000_003 + position * 7919) % 30_011


class Simulation:
    """Sequences that are written together on a virtual machine."""

    def __init__(
        self,
        machine: Machine,
        scripts: Sequence[Acceptance],
        *,
        draft: str | int = "auto",
        spread: float = 0.0,
        claims: Callable[[float], float] = lambda chance: chance,
        seed: int = 0,
        others: Sequence[Drafter] = (),
        token_of: Callable[[int, int], int] = token_at,
        prompt: int = 16,
    ) -> None:
        self.machine = machine
        self.head = ScriptedHead(machine, seed, spread, claims, token_of)
        self.controller = DepthController()
        self.speculation = Speculation([*others, self.head], self.controller, machine.clock)
        self.token_of = token_of
        self.draft = draft
        self.prompt = prompt
        self.runs: list[FakeRun] = []
        self.depths: list[int] = []
        self._opened = 0
        self.start(scripts)

    def start(self, scripts: Sequence[Acceptance]) -> None:
        """End all sequences, and start others."""
        for run in self.runs:
            self.speculation.close(run.sequence.id)
        self.runs = []
        for script in scripts:
            self._opened += 1
            tokens = [self.token_of(self._opened, p) for p in range(self.prompt)]
            sequence = FakeSequence(self._opened, script, FakeRequest(self.draft), tokens)
            blocks = FakeBlocks(len(tokens) - 1)
            self.head.scripts[sequence.id] = script
            self.head.reserved[sequence.id] = lambda blocks=blocks: blocks.reserved  # type: ignore[misc]
            self.runs.append(FakeRun(sequence, blocks))

    def run(self, tokens: int) -> float:
        """Write at least so many tokens; returns tokens per time of a step of plain decoding."""
        started, written = self.machine.now, 0
        while written < tokens:
            written += self.step()
        return written * PLAIN_SECONDS / (self.machine.now - started)

    def step(self) -> int:
        """One step; returns how many tokens it wrote."""
        for run in self.runs:
            run.draft, run.drafts = None, []
        self.speculation.draft(self.runs, 64)  # type: ignore[arg-type]
        rows = sum(1 + len(run.drafted) for run in self.runs)
        context = sum(run.blocks.length for run in self.runs) / len(self.runs)
        seconds = self.machine.spend(self.machine.step(rows, context))
        committed = [self._commit(run) for run in self.runs]
        self.speculation.observe(self.runs, committed, seconds)  # type: ignore[arg-type]
        self.depths.append(rows - len(self.runs))
        return sum(1 + part.accepted for part in committed)

    def _commit(self, run: FakeRun) -> Committed:
        sequence = run.sequence
        position = len(sequence.tokens)
        accepted = 0
        for guess in run.drafted:
            if guess != self.token_of(sequence.id, position + accepted):
                break
            accepted += 1
        new = [self.token_of(sequence.id, position + i) for i in range(accepted + 1)]
        rows = [sequence.tokens[-1], *new[:-1]]
        sequence.tokens += new
        run.blocks.length += len(rows)
        return Committed(sequence.id, rows, new[-1], run.draft, accepted, run.drafts)


def fixed_rate(machine: Machine, acceptance: Sequence[float], depth: int) -> float:
    """Tokens per time of a plain step when one sequence always drafts and verifies so many."""
    tokens = 1 + sum(math.prod(acceptance[: i + 1]) for i in range(depth))
    if depth == 0:
        return 1 / machine.step(1, 0)
    cost = machine.step(1 + depth, 0) + machine.call + machine.one_pass * depth
    return tokens / (cost + machine.row * tokens)
