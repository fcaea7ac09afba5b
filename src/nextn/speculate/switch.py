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

_BURST = {True: 48, False: 16}
"""Steps of one way in a trial, by whether drafts are made.

What drafts bring depends on the text and is known after many steps; how fast plain decoding is,
after a few.
"""

_PAIRS = 8
"""Most bursts of each way in a trial, in turn: what slows the machine for a while hits both."""

_BLOCK = 8
"""Steps that count as one sample: those next to each other are alike, as parts of a text are."""

_LEAST_SPREAD = 0.1
"""Standard deviation that is assumed of a block of steps with drafts, if it does not show more."""

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
            (sum(self.tokens[n : n + _BLOCK]) - rate * sum(seconds[n : n + _BLOCK])) ** 2
            for n in range(0, len(seconds), _BLOCK)
        )
        return rate, math.sqrt(squares) / total


@dataclass(slots=True)
class _Load:
    """What is known of one number of sequences.

    Attributes:
        drafts: the present way.
        bursts: of a trial that are over; None while a way is kept.
        steps: since the last change.
        kept: steps for which the way that was found is kept; 0 before the first trial has ended.
        found: the way that the last trial found.
        ways: what the present trial has counted, by whether drafts were made.
    """

    drafts: bool = False
    bursts: int | None = 0
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
        load = self._loads.get(sequences.bit_length())
        return sequences < 2 or load is None or load.drafts

    def observe(self, sequences: int, tokens: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            sequences: how many decoded in it, and in the step before it.
            tokens: how many they wrote.
            seconds: from the end of the step before to its end.
        """
        if sequences < 2:
            return
        load = self._loads.get(sequences.bit_length())
        if load is None:
            self._loads[sequences.bit_length()] = _Load()
            return
        load.steps += 1
        if load.bursts is None:
            if load.steps >= load.kept:
                load.ways = {True: _Way(), False: _Way()}
                load.bursts, load.drafts, load.steps = 0, False, 0
            return
        way = load.ways[load.drafts]
        if load.steps > _SETTLING:
            way.tokens.append(tokens)
            way.seconds.append(seconds)
        ends = load.steps >= _BURST[load.drafts]
        load.bursts += ends
        last = load.bursts == 2 * _PAIRS
        blocks, rest = divmod(len(way.tokens), _BLOCK)
        if last or (load.drafts and blocks >= 2 and not rest):
            self._judge(load, last)
        if ends and load.bursts is not None:
            load.drafts, load.steps = not load.drafts, 0

    def _judge(self, load: _Load, last: bool) -> None:
        """Keep the faster way if it is clear which one that is, or if the trial has been long.

        It is kept for the longer the more often it was found.
        """
        drafting, error = load.ways[True].rate()
        plain, plain_error = load.ways[False].rate()
        blocks = len(load.ways[True].tokens) / _BLOCK
        error = math.hypot(max(error, _LEAST_SPREAD / math.sqrt(blocks)), plain_error)
        if not last and abs(math.log(drafting / plain)) < _CLEAR * error:
            return
        faster = drafting >= plain
        confirmed = load.kept > 0 and faster == load.found
        load.kept = min(2 * load.kept, _MOST_KEPT) if confirmed else _KEPT
        load.drafts = load.found = faster
        load.bursts, load.steps = None, 0
