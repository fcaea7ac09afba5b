"""Whether several sequences draft at all: decided by what whole steps bring.

The depth controller knows what rows and drafts cost the executor. Beside that, drafting takes time
wherever tokens are handled: for decisions, for what drafters learn, for whoever reads the texts.
With one sequence that is little, and with many it is not. So here nothing is modelled: now and then
the sequences draft for a while, and do not draft for a while, and the faster way is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_TRIAL = 32
"""Steps of a trial."""

_KEPT = 512
"""Steps for which the faster way is kept."""

_SETTLING = 4
"""Steps after a change that do not count: a drafter that was left out has to catch up."""

_MARGIN = 1.02
"""Drafting is given up only if it is slower by this factor."""

_SLOWEST = 4.0
"""A step that takes so many times as long as those before was held up by something else."""


@dataclass(slots=True)
class _Way:
    """Steps in one of the two ways."""

    tokens: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds if self.seconds > 0.0 else 0.0


@dataclass(slots=True)
class _Load:
    """What is known of one number of sequences."""

    drafts: bool = True
    trial: bool = True
    steps: int = 0
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
            sequences: how many decode in it.
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
        way = load.ways[load.drafts]
        typical = way.seconds * tokens / way.tokens if way.tokens else seconds
        if load.steps > _SETTLING:
            way.tokens += tokens
            way.seconds += min(seconds, _SLOWEST * typical)
        if load.steps >= (_TRIAL if load.trial else _KEPT):
            self._next(load)

    def _next(self, load: _Load) -> None:
        """End a trial, or the time for which a way was kept."""
        on, off = load.ways[True].rate, load.ways[False].rate
        other = not load.drafts
        if load.trial and on and off:
            load.drafts, load.trial = on * _MARGIN >= off, False
        else:
            # The other way is tried, and then compared with what this one brought lately.
            load.drafts, load.trial = other, True
        load.steps = 0
        load.ways[load.drafts] = _Way()

    def _load(self, sequences: int) -> _Load:
        return self._loads.setdefault(sequences.bit_length(), _Load())
