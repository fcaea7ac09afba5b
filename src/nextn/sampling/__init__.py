"""From a row of logits to a token: bias, penalties, filters, coupled noise, log probabilities."""

from __future__ import annotations

from nextn.sampling.params import SamplingParams
from nextn.sampling.sampler import Choice, LogitsError, Sampler

__all__ = ["Choice", "LogitsError", "Sampler", "SamplingParams"]
