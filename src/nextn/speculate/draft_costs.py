"""What drafts of a model cost, in units of the step costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from nextn.speculate.base import Draft

_MEMORY = 1 - 1 / 60
_SWEEPS = 3
_SOLVE_ALWAYS = 16  # measurements, after which it is solved anew only
_SOLVE_STEPS = 4  # after so many
_SURE = 5  # measurements, after which a time is clipped to _MOST times what was expected
_MOST = 1.5

# Of a call, a pass, each further chain of a pass, each row of catching up: what is assumed before
# anything was measured, and the weight of that: as if it had been measured so often, each time with
# a single one of its kind. Rows come by the dozen, and so outweigh what is assumed of them soon.
_ASSUMED = (0.02, 0.1, 0.02, 0.005)
_WEIGHT = (4.0, 1.0, 4.0, 200.0)


@dataclass(frozen=True, slots=True)
class DraftTime:
    """The measured time of one chain that begins with one row.

    Attributes:
        passes: its tokens.
        seconds: its time, > 0.
    """

    passes: int
    seconds: float


@dataclass(slots=True)
class DraftWork:
    """What a drafter has to do in one call, for all its chains together.

    Attributes:
        passes: passes of the longest chain.
        further: passes of all other chains; they run together with those of the longest one.
        caught_up: rows that the first pass read beside those of the drafts.
    """

    passes: float = 0.0
    further: float = 0.0
    caught_up: float = 0.0

    @classmethod
    def of(cls, drafts: Sequence[Draft]) -> DraftWork:
        """What these drafts took."""
        passes = [draft.passes for draft in drafts]
        longest = max(passes, default=0)
        return cls(longest, sum(passes) - longest, sum(draft.caught_up for draft in drafts))


class DraftCosts:
    """Learns what the parts of the work cost, from the measured time of whole calls.

        cost = call + pass * passes + chain * further + row * caught_up

    Least squares with fading memory, no part below zero, solved by coordinate descent from the last
    solution. The assumed costs take part as measurements: so a cost that the calls do not tell
    apart from others (all of one depth, say) stays near what is assumed.

    Attributes:
        call: of every call.
        one_pass: of a pass.
        chain: of a further chain in a pass.
        row: of a row of catching up.
    """

    __slots__ = ("_matrix", "_seen", "_vector", "call", "chain", "one_pass", "row")

    def __init__(self) -> None:
        self.call, self.one_pass, self.chain, self.row = _ASSUMED
        self._matrix = [[0.0] * 4 for _ in range(4)]
        self._vector = [0.0] * 4
        self._seen = 0

    def of(self, work: DraftWork) -> float:
        """The cost of a call."""
        return (
            self.call
            + self.one_pass * work.passes
            + self.chain * work.further
            + self.row * work.caught_up
        )

    def observe(self, work: DraftWork, cost: float) -> None:
        """Learn from one call.

        Args:
            work: what it did.
            cost: its measured time in units of the step costs, >= 0.
        """
        self._seen += 1
        if self._seen > _SURE:
            cost = min(cost, _MOST * self.of(work))
        features = (1.0, work.passes, work.further, work.caught_up)
        matrix, vector = self._matrix, self._vector
        for i, one in enumerate(features):
            row = matrix[i]
            for j, other in enumerate(features):
                row[j] = row[j] * _MEMORY + one * other
            vector[i] = vector[i] * _MEMORY + one * cost
        if self._seen > _SOLVE_ALWAYS and self._seen % _SOLVE_STEPS:
            return
        solution = [self.call, self.one_pass, self.chain, self.row]
        for _ in range(_SWEEPS):
            for i, row in enumerate(matrix):
                others = sum(map(mul, row, solution)) - row[i] * solution[i]
                wanted = vector[i] + _WEIGHT[i] * _ASSUMED[i] - others
                solution[i] = max(wanted / (row[i] + _WEIGHT[i]), 0.0)
        self.call, self.one_pass, self.chain, self.row = solution
