"""How fast sequences are written at present, and how much time may be spent on tries."""

from __future__ import annotations

_ENGINE_MEMORY = 1 - 1 / 200
_SEQUENCE_MEMORY = 1 - 1 / 40
_PRIOR = 10.0  # steps

_SHARE = 0.006  # of the time may be lost by tries
_FIRST = 1.0  # to begin with, in units of the step costs
_MOST = 4.0  # most that can be saved up, if no try costs more


class Pace:
    """Tokens per step of plain decoding, over the recent past; 1 is plain decoding itself.

    Args:
        engine: the pace of the engine, which is assumed of a sequence until its own is known; None
            for that itself.
    """

    __slots__ = ("_engine", "_memory", "_time", "_tokens")

    def __init__(self, engine: Pace | None = None) -> None:
        self._engine = engine
        self._memory = _ENGINE_MEMORY if engine is None else _SEQUENCE_MEMORY
        self._tokens = 0.0
        self._time = 0.0

    def add(self, tokens: int, time: float) -> None:
        """Count a step: what it wrote, and its time in steps of plain decoding."""
        self._tokens = self._tokens * self._memory + tokens
        self._time = self._time * self._memory + time

    def begin_anew(self) -> None:
        """Forget what was counted."""
        self._tokens = self._time = 0.0

    @property
    def rate(self) -> float:
        """Tokens per step of plain decoding; below 1 if it waits for the drafts of others."""
        assumed = 1.0 if self._engine is None else self._engine.rate
        return (self._tokens + _PRIOR * assumed) / (self._time + _PRIOR)


class Allowance:
    """Time that may be lost by tries, in units of the step costs.

    It is a small share of the time that plain decoding of the same text would take.

    Attributes:
        left: what may be spent now; below zero when tries cost more than was expected of them.
    """

    __slots__ = ("_most", "left")

    def __init__(self) -> None:
        self.left = _FIRST
        self._most = _MOST

    def save_for(self, cost: float) -> None:
        """Note what a try would cost, so that it and a little more can be saved up."""
        self._most = max(_MOST, 1.25 * cost)

    def earn(self, time: float) -> None:
        """Earn the share of what plain decoding would have taken."""
        self.refund(_SHARE * time)

    def spend(self, time: float) -> None:
        """Pay for a try."""
        self.left -= time

    def refund(self, time: float) -> None:
        """What a try brought."""
        self.left = min(self.left + time, self._most)
