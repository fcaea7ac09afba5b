"""Whether several sequences draft at all: decided by what whole steps bring.

The depth controller knows what rows and drafts cost the executor. Beside that, drafting takes time
wherever tokens are handled: for decisions, for what drafters learn, for whoever reads the texts.
With one sequence that is little, and with many it is not. So here nothing is modelled: now and then
the sequences draft and do not draft in turn for a short while, and the faster way is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median_low

_BURST = 16
"""Steps of one way in a trial."""

_PAIRS = 4
"""Most bursts of each way in a trial, in turn: what slows the machine for a while hits both."""

_CLEAR = 3.0
"""A trial ends as soon as the ways differ by so many standard errors."""

_KEPT = 1024
"""Steps for which the faster way is kept, at first."""

_MOST_KEPT = 4096
"""Steps for which it is kept at most: each trial that confirms it doubles them."""

_SETTLING = 4
"""Steps after a change that do not count: a drafter that was left out has to catch up."""

_SLOWEST = 2.0
"""A step that takes so many times as long as the typical one was held up by something else."""


@dataclass(slots=True)
class _Way:
    """Steps in one of the two ways: how many tokens each wrote, and how long it took."""

    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def rate(self) -> tuple[float, float]:
        """Tokens per second, and the standard error of that as a share of it."""
        longest = _SLOWEST * median_low(self.seconds)
        seconds = [min(each, longest) for each in self.seconds]
        total = sum(self.tokens)
        rate = total / sum(seconds)
        squares = sum(
            (tokens - rate * each) ** 2 for tokens, each in zip(self.tokens, seconds, strict=True)
        )
        return rate, math.sqrt(squares) / total


@dataclass(slots=True)
class _Load:
    """What is known of one number of sequences.

    Attributes:
        drafts: the present way.
        bursts: of a trial that are over.
        trying: whether there is a trial.
        steps: since the last change.
        kept: steps for which the way that was found is kept; 0 before the first trial has ended.
        found: the way that the last trial found.
        ways: what the present trial has counted, by whether drafts were made.
    """

    drafts: bool = True
    bursts: int = 0
    trying: bool = True
    steps: int = 0
    kept: int = 0
    found: bool = True
    ways: dict[bool, _Way] = field(default_factory=lambda: {True: _Way(), False: _Way()})


class Switch:
    """Decides for every step of several sequences whether they draft.

    Numbers of sequences are taken together by powers of two. One sequence alone always may draft:
    for it, the depth controller decides.
    """

    def __init__(self) -> None:
        self._loads: dict[int, _Load] = {}

    def drafts(self, sequences: int) -> bool:
        """Whether the sequences of the coming step may draft.

        Args:
            sequences: how many decode in it, or will do so once their prompts are read.
        """
        return sequences < 2 or self._load(sequences).drafts

    def observe(self, sequences: int, tokens: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            sequences: how many decoded in it, and in the step before it.
            tokens: how many they wrote.
            seconds: from the end of the step before to its end.
        """
        if sequences < 2:
            return
        load = self._load(sequences)
        load.steps += 1
        if not load.trying:
            if load.steps >= load.kept:
                load.ways = {True: _Way(), False: _Way()}
                load.trying, load.bursts = True, 0
                self._turn(load)
            return
        if load.steps > _SETTLING:
            load.ways[load.drafts].tokens.append(tokens)
            load.ways[load.drafts].seconds.append(seconds)
        if load.steps >= _BURST:
            load.bursts += 1
            if load.bursts % 2 or not self._ends_trial(load):
                self._turn(load)

    def _turn(self, load: _Load) -> None:
        """Go on with the other way."""
        load.steps = 0
        load.drafts = not load.drafts

    def _ends_trial(self, load: _Load) -> bool:
        """Keep the faster way if it is clear which one that is, or if the trial has been long.

        It is kept for the longer the more often it was found.
        """
        drafting, drafting_error = load.ways[True].rate()
        plain, plain_error = load.ways[False].rate()
        error = math.hypot(drafting_error, plain_error)
        if load.bursts < 2 * _PAIRS and abs(math.log(drafting / plain)) < _CLEAR * error:
            return False
        faster = drafting >= plain
        confirmed = load.kept > 0 and faster == load.found
        load.kept = min(2 * load.kept, _MOST_KEPT) if confirmed else _KEPT
        load.drafts = load.found = faster
        load.trying, load.steps = False, 0
        return True

    def _load(self, sequences: int) -> _Load:
        return self._loads.setdefault(sequences.bit_length(), _Load())
