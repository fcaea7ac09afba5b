"""What drafted tokens are worth: what they bring, less the price of what they take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median_low

from nextn.speculate.base import Draft
from nextn.speculate.costs import StepCosts, StepTime
from nextn.speculate.draft_costs import DraftCosts, DraftTime, DraftWork

_AT_ONCE = 16  # rows of catching up that one draft pays for
_LONGEST_PAYBACK = 64  # steps, in which further ones are paid for


@dataclass(slots=True)
class Load:
    """A step as it is without drafted tokens.

    Attributes:
        sequences: the ids of those that decode in it.
        rows: all its rows: one per decoding sequence, plus those of prompt chunks.
        context: mean number of positions before the rows that decode.
        paced: those of the sequences whose depth is decided by value; how fast the others are
            written says nothing about what a text allows. None for all.
    """

    sequences: list[int]
    rows: int
    context: float = 0.0
    paced: Collection[int] | None = None

    @property
    def pure(self) -> bool:
        """Whether it has no prompt rows."""
        return self.rows == len(self.sequences)


@dataclass(slots=True)
class Prospect:
    """A sequence for which the costly drafter might be asked.

    Attributes:
        sequence: its id.
        room: the most tokens that can be used, at least 1.
        behind: rows that the drafter would have to catch up with.
        free: what a free drafter guesses anyway.
        remaining: the most tokens that may still be written.
    """

    sequence: int
    room: int
    behind: int = 0
    free: Draft = field(default_factory=Draft)
    remaining: int = 2 * _LONGEST_PAYBACK

    @property
    def catching_up(self) -> float:
        """Rows of `behind` that the coming draft has to pay for.

        A few are what was written since the last draft. Many are a prompt, or what was copied: they
        are read once for all drafts that follow, and each step that the text may still take bears
        its share.
        """
        at_once = min(self.behind, _AT_ONCE)
        steps = min(max(self.remaining // 2, 1), _LONGEST_PAYBACK)
        return at_once + (self.behind - at_once) / steps


@dataclass(slots=True)
class Item:
    """One token of a draft that may be had: what it brings and takes, in expectation."""

    gain: float  # tokens
    index: int  # of the sequence
    rows: float = 1.0  # at most one
    passes: float = 0.0


class Work:
    """The costs of steps and drafts, and what sets of drafted tokens are worth at a price of time.

    Attributes:
        steps: what steps cost.
        drafts: what drafts of the costly drafter cost.
    """

    def __init__(self) -> None:
        self.steps = StepCosts()
        self.drafts = DraftCosts()

    def prime(self, steps: Iterable[StepTime], drafts: Iterable[DraftTime]) -> None:
        """Start from times that were measured at load; of equal drafts the lower median counts.

        A first guess of what drafts cost matters: where it is too high, few are made, and it stays.
        """
        self.steps.prime(steps)
        seconds: dict[int, list[float]] = {}
        for time in drafts:
            seconds.setdefault(time.passes, []).append(time.seconds)
        if not self.steps.largest:
            return
        for passes, times in seconds.items():
            cost = self.steps.relative_seconds(median_low(times))
            for _ in times:
                self.drafts.observe(DraftWork(passes), cost)

    def plain(self, load: Load) -> float:
        """The cost of a step of plain decoding of the same sequences."""
        return self.steps.cost(len(load.sequences), load.context)

    def added(self, load: Load, rows: float) -> float:
        """What drafted rows add to the cost of the step; between whole numbers, their mean."""
        return _between(self.steps.added(load.rows, load.context, int(rows) + 1), rows)

    def best_drafted(self, load: Load, price: float, chances: Sequence[float]) -> tuple[float, int]:
        """The highest value of the first n tokens of a draft that is made, and n.

        Args:
            load: the coming step.
            price: of its time.
            chances: that the first 1, 2, ... tokens are right.
        """
        best, count = 0.0, 0
        tokens = 0.0
        added = self.steps.added(load.rows, load.context, len(chances))
        for number, chance in enumerate(chances, start=1):
            tokens += chance
            value = tokens - price * added[number]
            if value > best:
                best, count = value, number
        return best, count

    def best(
        self, load: Load, price: float, items: Sequence[Item], behind: Sequence[float]
    ) -> tuple[float, int]:
        """The highest value of the first n items, and n.

        Args:
            load: the coming step.
            price: of its time.
            items: tokens of chains that may be had.
            behind: by sequence, rows of catching up that its first token pays for.
        """
        costs = self.drafts
        added = self.steps.added(load.rows, load.context, len(items))
        best, count = 0.0, 0
        tokens = rows = drafting = 0.0
        depths: dict[int, int] = {}
        deepest = 0
        for number, item in enumerate(items, start=1):
            tokens += item.gain
            rows += item.rows
            if item.passes:
                depth = depths.get(item.index, 0)
                depths[item.index] = depth + 1
                if depth == 0:
                    drafting += costs.row * behind[item.index] + (0.0 if deepest else costs.call)
                # A pass takes the chains of all sequences that get to it.
                drafting += item.passes * (costs.chain if depth < deepest else costs.one_pass)
                deepest = max(deepest, depth + 1)
            value = tokens - price * (_between(added, rows) + drafting)
            if value > best:
                best, count = value, number
        return best, count

    def further_token(self, load: Load, limits: Sequence[int]) -> float:
        """The cost of one more pass and row for one of several chains of about these lengths."""
        total, chains, costs = sum(limits), len(limits), self.drafts
        one_pass = (costs.one_pass + costs.chain * (chains - 1)) / chains
        added = self.steps.added(load.rows, load.context, total + 1)
        return one_pass + (added[total + 1] - added[total - 1]) / 2

    def cheapest_token(self, max_depth: int, context: float) -> float:
        """The least that a drafted token can cost, by depth, in steps of plain decoding.

        It is the least chance of a first token that could ever pay: for one sequence whose chain
        joins the passes of others, if that is cheaper than a pass.
        """
        alone = Load([0], 1, context)
        one_pass = min(self.drafts.one_pass, self.drafts.chain)
        cheapest = min(self.added(alone, depth) / depth for depth in range(1, max_depth + 1))
        return (one_pass + cheapest) / self.plain(alone)


def _between(values: Sequence[float], index: float) -> float:
    """What lies between two whole indices, on a straight line."""
    whole = int(index)
    value = values[whole]
    return value if index == whole else value + (values[whole + 1] - value) * (index - whole)
