"""Sequences, their schedule and the step loop.

The life of a request: `Engine.submit` makes a `Sequence` of it, which waits. In each `Engine.step`
the `Scheduler` decides which sequences run and with how many rows, `Speculation` adds drafted rows,
the executor computes them all at once, `step.choose` picks tokens and `step.commit` makes them
text; what was written is returned as events.
"""

from __future__ import annotations

from nextn.engine.engine import Engine
from nextn.engine.events import Event, FinishReason, Token
from nextn.engine.request import MAX_DRAFT, GenerationRequest
from nextn.engine.sequence import Sequence
from nextn.engine.statistics import Statistics

__all__ = [
    "MAX_DRAFT",
    "Engine",
    "Event",
    "FinishReason",
    "GenerationRequest",
    "Sequence",
    "Statistics",
    "Token",
]
