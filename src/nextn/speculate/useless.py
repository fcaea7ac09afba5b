"""When a drafter is given up: nothing that it could still do would pay for its costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Tries are rare where drafts fail, so two hundred of them take ten thousand tokens. With so few as
# these the bound is wide, and only next to no right token is a verdict.
_DRAFTS = 40  # at least so many are looked at
_AGAIN = 20  # after so many more, it is looked at again
_DEVIATIONS = 3.0  # of the upper bound, which is looked at many times


@dataclass(frozen=True, slots=True)
class Useless:
    """Why a drafter is not asked any more.

    Attributes:
        drafter: its name.
        drafts: drafts whose first token was compared with the trunk's choice.
        accepted: those of them whose first token was right.
    """

    drafter: str
    drafts: int
    accepted: int

    def __str__(self) -> str:
        return (
            f"the {self.drafter} is useless here: {self.accepted} of {self.drafts} drafts accepted"
        )


class FirstTokens:
    """Counts how often the first token of a draft was right.

    A chain is right no further than its first token is. So if that is right with chance a, d tokens
    bring at most a * d; they pay for themselves only if a is at least their cost divided by d.
    """

    __slots__ = ("_drafts", "_right")

    def __init__(self) -> None:
        self._drafts = 0
        self._right = 0

    def add(self, right: bool) -> None:
        """Count one draft."""
        self._drafts += 1
        self._right += right

    @property
    def due(self) -> bool:
        """Whether it is time for a verdict."""
        return self._drafts >= _DRAFTS and self._drafts % _AGAIN == 0

    def verdict(self, drafter: str, cheapest: float) -> Useless | None:
        """Whether the drafter is useless: the upper bound of its chance is below any that pays.

        The bound is Wilson's, which is right for small chances, too.

        Args:
            drafter: its name.
            cheapest: the least cost of a drafted token, in steps of plain decoding.
        """
        n, z = self._drafts, _DEVIATIONS
        share = self._right / n
        spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        upper = (share + z * z / (2 * n) + spread) / (1 + z * z / n)
        return Useless(drafter, n, self._right) if upper < cheapest else None
