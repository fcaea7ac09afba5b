"""Guessing tokens ahead of the model, and deciding how many guesses to verify."""

from __future__ import annotations

from nextn.speculate.accept import accept
from nextn.speculate.base import NO_DRAFT, Committed, Draft, Drafter, Want
from nextn.speculate.costs import StepTime
from nextn.speculate.depth import DEFAULT_MAX_DEPTH, DepthController
from nextn.speculate.draft_costs import DraftTime
from nextn.speculate.grammar import GrammarDrafter, without_forbidden
from nextn.speculate.head import HeadDrafter
from nextn.speculate.statistics import DrafterStatistics, SpeculationStatistics
from nextn.speculate.suffix import SuffixDrafter
from nextn.speculate.switch import Switch
from nextn.speculate.useless import Useless
from nextn.speculate.value import Load, Prospect

__all__ = [
    "DEFAULT_MAX_DEPTH",
    "NO_DRAFT",
    "Committed",
    "DepthController",
    "Draft",
    "DraftTime",
    "Drafter",
    "DrafterStatistics",
    "GrammarDrafter",
    "HeadDrafter",
    "Load",
    "Prospect",
    "SpeculationStatistics",
    "StepTime",
    "SuffixDrafter",
    "Switch",
    "Useless",
    "Want",
    "accept",
    "without_forbidden",
]
