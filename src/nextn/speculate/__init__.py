"""Guessing tokens ahead of the model, and deciding how many guesses to verify."""

from __future__ import annotations

from nextn.speculate.accept import accept
from nextn.speculate.base import Committed, Draft, Drafter, Want
from nextn.speculate.depth import DEFAULT_MAX_DEPTH, DepthController
from nextn.speculate.head import HeadDrafter
from nextn.speculate.statistics import DrafterStatistics, SpeculationStatistics
from nextn.speculate.suffix import SuffixDrafter

__all__ = [
    "DEFAULT_MAX_DEPTH",
    "Committed",
    "DepthController",
    "Draft",
    "Drafter",
    "DrafterStatistics",
    "HeadDrafter",
    "SpeculationStatistics",
    "SuffixDrafter",
    "Want",
    "accept",
]
