"""Notices that chances are not what they were, so that what was counted before can be forgotten."""

from __future__ import annotations

import math

_SHIFT = 1.2  # of the log of the odds; a change of at least about that much is to be noticed
_EVIDENCE = 5.5  # log of the likelihood ratio that is taken for one

_UP, _DOWN = math.exp(_SHIFT), math.exp(-_SHIFT)


class ChangeDetector:
    """Compares chances with what came, and notices when they hold no more.

    Two sums of log likelihood ratios, one for larger chances and one for smaller ones, grow as long
    as these explain better what comes, and never fall below zero: Page's cumulative sum test
    ("Continuous inspection schemes", 1954). Chances that hold are rejected once in a thousand
    times or less; if they fall from 0.85 to 0.15, that is noticed after seven.
    """

    __slots__ = ("_larger", "_smaller")

    def __init__(self) -> None:
        self._larger = 0.0
        self._smaller = 0.0

    def add(self, chance: float, right: bool) -> bool:
        """Compare one chance with what came.

        Args:
            chance: that was expected; one beyond 1 counts as 1.
            right: what came.

        Returns:
            Whether the chances have changed; then the test begins anew.
        """
        chance = min(chance, 1.0)
        shift = _SHIFT if right else 0.0
        larger = self._larger + shift - math.log(1.0 + chance * (_UP - 1.0))
        smaller = self._smaller - shift - math.log(1.0 + chance * (_DOWN - 1.0))
        self._larger, self._smaller = max(larger, 0.0), max(smaller, 0.0)
        if max(larger, smaller) < _EVIDENCE:
            return False
        self._larger = self._smaller = 0.0
        return True
