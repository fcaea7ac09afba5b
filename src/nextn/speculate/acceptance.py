"""What drafts were worth, counted: how far chains get, and whether estimates come true."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nextn.speculate.base import Draft, right_guesses
from nextn.speculate.change import ChangeDetector

_ENGINE_MEMORY = 1 - 1 / 300
_SEQUENCE_MEMORY = 1 - 1 / 60
_ENGINE_PRIOR = 4.0  # weight of what is assumed, in chains
_SEQUENCE_PRIOR = 20.0  # weight of what the engine counted: texts differ less than a few chains do
_ASSUMED_RIGHT = 0.6
_ASSUMED_PASSES = 0.95

_CALIBRATION_PRIOR = 3.0  # tokens that count as having been as expected, at first
_CALIBRATION_MEMORY = 1 - 1 / 100
_RELAXED = 1 / 50  # of what a factor differs from 1

_REMAINS = 0.05  # of counts, when it is noticed that they hold no more
_CHANGED_PRIOR = 4.0  # weight of what the engine counted, in a sequence that has changed

_LARGEST_WEIGHT = 1e9  # of a chain, at which all counts are scaled down


class Survival:
    """How far chains get: the share of them that reach depth d + 1 of those that reached d.

    Args:
        prior: what to assume before much was counted: the survival of a larger group of chains, or
            a share for depth 0. At each further depth, the estimate of the depth before is assumed;
            in a group, its share at this depth, and half of what the depth before differs from its.
        weight: of the prior, in chains.
        memory: how much of a count is left after the next one.
    """

    __slots__ = ("_memory", "_one", "_prior", "_reached", "_survived", "_weight")

    def __init__(self, prior: Survival | float, weight: float, memory: float) -> None:
        self._prior = prior
        self._weight = weight
        self._memory = memory
        # Old counts fade by what new ones weigh more: so a chain touches its own depths only, and
        # what is not tried any more is forgotten, too.
        self._one = 1.0
        self._reached: list[float] = []
        self._survived: list[float] = []

    def add(self, length: int, ended: bool) -> None:
        """Count one chain.

        Args:
            length: how far it got.
            ended: whether it ended there of itself; else nobody knows how far it would have got.
        """
        reached, survived = self._reached, self._survived
        missing = length + ended - len(reached)
        if missing > 0:
            reached.extend([0.0] * missing)
            survived.extend([0.0] * missing)
        self._one /= self._memory
        one = self._one
        for depth in range(length):
            reached[depth] += one
            survived[depth] += one
        if ended:
            reached[length] += one
        if one > _LARGEST_WEIGHT:
            self._reached = [count / one for count in reached]
            self._survived = [count / one for count in survived]
            self._one = 1.0

    def begin_anew(self) -> None:
        """Forget most of what was counted, and believe the prior less: this is no usual case."""
        self._one /= _REMAINS
        self._weight = min(self._weight, _CHANGED_PRIOR)

    @property
    def count(self) -> float:
        """Chains that were counted; those that fade count less."""
        return self._reached[0] / self._one if self._reached else 0.0

    @property
    def deepest(self) -> int:
        """One more than the depth from which on nothing was counted."""
        return len(self._reached)

    def hoped(self, depth: int) -> float:
        """What the share at a depth may well be: a standard error more than the estimate."""
        share = self.shares(depth + 1)[depth]
        count = self._reached[depth] / self._one if depth < len(self._reached) else 0.0
        return share + math.sqrt(share * (1.0 - share) / (count + self._weight))

    def shares(self, depths: int) -> list[float]:
        """The estimate at each depth, given that it was reached."""
        prior = self._prior
        if isinstance(prior, Survival):
            assumed = prior.shares(depths)
            last = assumed[0] if assumed else 0.0
        else:
            assumed, last = [], prior
        result = []
        weight = self._weight * self._one
        for depth in range(depths):
            if assumed:
                # Half of what the depth before it differs from the group.
                differs = last - assumed[depth - 1] if depth else 0.0
                last = min(max(assumed[depth] + differs / 2, 0.0), 1.0)
            if depth < len(self._reached):
                last = (self._survived[depth] + weight * last) / (self._reached[depth] + weight)
            result.append(last)
        return result


class ChainRecord:
    """The chains of one drafter, in one sequence or in all of an engine.

    Three lengths of each chain count: the passes it took, the rows that verified it, and the tokens
    it had right. That the trunk agreed with a token is known one token beyond the verified ones. So
    a chain teaches even when nothing of it was verified; a right token that was not verified counts
    as if it had been.

    Args:
        engine: the record of the engine, which is the prior of a sequence's; None for that itself.
    """

    __slots__ = ("_change", "_passes", "_right", "_rows", "engine")

    def __init__(self, engine: ChainRecord | None = None) -> None:
        self.engine = engine
        self._change = ChangeDetector()
        if engine is None:
            self._right = Survival(_ASSUMED_RIGHT, _ENGINE_PRIOR, _ENGINE_MEMORY)
            self._rows = Survival(_ASSUMED_PASSES, _ENGINE_PRIOR, _ENGINE_MEMORY)
            self._passes = Survival(_ASSUMED_PASSES, _ENGINE_PRIOR, _ENGINE_MEMORY)
        else:
            self._right = Survival(engine._right, _SEQUENCE_PRIOR, _SEQUENCE_MEMORY)
            self._rows = Survival(engine._rows, _SEQUENCE_PRIOR, _SEQUENCE_MEMORY)
            self._passes = Survival(engine._passes, _SEQUENCE_PRIOR, _SEQUENCE_MEMORY)

    def add(self, chain: Draft, limit: int, verified: int, written: Sequence[int]) -> None:
        """Count one chain.

        Args:
            chain: all of it.
            limit: the most tokens it was allowed.
            verified: how many of its tokens had rows.
            written: what the step wrote.
        """
        length = len(chain.tokens)
        ended = length < limit  # of itself
        right = right_guesses(chain, written)
        wrong = right < min(length, len(written))
        rows = max(verified, right)
        rows_ended = verified >= right if rows < length else ended
        passes = max(chain.passes, length)
        record: ChainRecord | None = self
        while record is not None:
            record._right.add(right, wrong)
            record._rows.add(rows, rows_ended)
            record._passes.add(passes, passes < limit)
            record = record.engine

    def has_changed(self, chance: float, right: bool) -> bool:
        """Whether tokens are right more or less often than before; then old chains count little.

        Args:
            chance: that was expected of a token, given those before it.
            right: whether it was.
        """
        changed = self._change.add(chance, right)
        if changed:
            for survival in (self._right, self._rows, self._passes):
                survival.begin_anew()
        return changed

    @property
    def count(self) -> float:
        """Chains whose first token was judged; those that fade count less."""
        return self._right.count

    def next_right(self, depth: int) -> float:
        """The chance that the token at this depth may have if those before it are right."""
        return self._right.hoped(depth)

    @property
    def deepest(self) -> int:
        """The most tokens that a chain of the record had."""
        return self._passes.deepest

    def outlook(self, depths: int) -> list[tuple[float, float, float]]:
        """For each depth, the chances that its token is right, is verified, and takes a pass."""
        result: list[tuple[float, float, float]] = []
        right = rows = passes = 1.0
        for one, two, three in zip(
            self._right.shares(depths),
            self._rows.shares(depths),
            self._passes.shares(depths),
            strict=True,
        ):
            if result:  # the first pass is made in any case
                passes *= three
            right *= one
            rows *= two
            token = right * passes
            result.append((token, max(rows, token), passes))
        return result


class Calibration:
    """Whether the acceptance that a drafter estimates comes true.

    Args:
        most: the largest factor.

    Attributes:
        factor: what to multiply estimates with.
    """

    __slots__ = ("_change", "_expected", "_most", "_right", "factor")

    def __init__(self, most: float) -> None:
        self._most = most
        self._change = ChangeDetector()
        self._right = _CALIBRATION_PRIOR
        self._expected = _CALIBRATION_PRIOR
        self.factor = 1.0

    def add(self, estimate: float, right: bool) -> None:
        """Compare one estimate with what came."""
        changed = self._change.add(estimate * self.factor, right)
        if changed and self._expected > _CALIBRATION_PRIOR:
            # What was found counts no more than what was assumed at first.
            self._right *= _CALIBRATION_PRIOR / self._expected
            self._expected = _CALIBRATION_PRIOR
        self._right = self._right * _CALIBRATION_MEMORY + right
        self._expected = self._expected * _CALIBRATION_MEMORY + estimate
        self._update()

    def relax(self) -> None:
        """Come nearer to what is stated, where an estimate could have been compared and was not.

        Else a factor that is too small for anything to be tried would stay.
        """
        self._right += _RELAXED * (self._expected - self._right)
        self._update()

    def _update(self) -> None:
        self.factor = min(max(self._right, 0.1) / max(self._expected, 0.1), self._most)
