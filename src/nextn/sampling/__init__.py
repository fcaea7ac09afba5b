"""From a row of logits to a token: bias, penalties, constraint, filters, noise, probabilities."""

from __future__ import annotations

from nextn.sampling.constraint import (
    Constraint,
    ConstraintError,
    ConstraintSource,
    Follower,
)
from nextn.sampling.params import SamplingParams
from nextn.sampling.sampler import Choice, LogitsError, Sampler

__all__ = [
    "Choice",
    "Constraint",
    "ConstraintError",
    "ConstraintSource",
    "Follower",
    "LogitsError",
    "Sampler",
    "SamplingParams",
]
