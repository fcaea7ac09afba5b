"""Counting what speculation brought."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Self

from nextn.speculate.base import Draft


@dataclass(slots=True)
class DrafterStatistics:
    """What became of the tokens of one drafter.

    Attributes:
        drafted: tokens that were verified.
        accepted: tokens of them that the trunk chose itself.
        drafted_at: verified tokens by their index in the draft.
        accepted_at: accepted tokens by their index in the draft.
        judged_at: verified tokens, all tokens before which were accepted, by their index.
    """

    drafted: int = 0
    accepted: int = 0
    drafted_at: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)
    judged_at: list[int] = field(default_factory=list)

    @property
    def acceptance(self) -> float:
        """Accepted share of the verified tokens; 0 if there were none."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def acceptance_at(self) -> list[float]:
        """Accepted share by index in the draft, of the tokens all before which were accepted."""
        return [
            accepted / judged if judged else 0.0
            for accepted, judged in zip(self.accepted_at, self.judged_at, strict=True)
        ]

    def add(self, other: Self) -> None:
        """Add the counts of another object of the same class."""
        for item in fields(self):
            ours, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(theirs, dict):
                for name, counts in theirs.items():
                    ours.setdefault(name, DrafterStatistics()).add(counts)
            elif isinstance(theirs, list):
                ours.extend([0] * (len(theirs) - len(ours)))
                for index, count in enumerate(theirs):
                    ours[index] += count
            else:
                setattr(self, item.name, ours + theirs)

    def _count(self, drafted: int, accepted: int, first: int = 0) -> None:
        """Count the tokens of a draft from index `first` on."""
        missing = drafted - len(self.drafted_at)
        if missing > 0:
            for counts in (self.drafted_at, self.accepted_at, self.judged_at):
                counts.extend([0] * missing)
        self.drafted += drafted - first
        self.accepted += max(accepted - first, 0)
        for counts, end in (
            (self.drafted_at, drafted),
            (self.accepted_at, accepted),
            (self.judged_at, min(accepted + 1, drafted)),
        ):
            for index in range(first, end):
                counts[index] += 1


@dataclass(slots=True)
class SpeculationStatistics(DrafterStatistics):
    """The same over all drafters, and the steps of decoding that they shortened.

    Attributes:
        steps: steps of decoding of one sequence, those without a draft included.
        by_drafter: the share of each drafter, by name.
    """

    steps: int = 0
    by_drafter: dict[str, DrafterStatistics] = field(default_factory=dict)

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a step of decoding yields on average; 0 before the first."""
        return (self.steps + self.accepted) / self.steps if self.steps else 0.0

    def record(self, draft: Draft | None, accepted: int) -> None:
        """Count one step of decoding of one sequence.

        Args:
            draft: the draft as verified, cut to its depth; None or empty if there was none.
            accepted: how many of its tokens were accepted.
        """
        self.steps += 1
        if draft is None or not draft.tokens:
            return
        drafted = len(draft.tokens)
        self._count(drafted, accepted)
        own = min(drafted, draft.tail_start) if draft.tail else drafted
        if own:
            by_drafter = self.by_drafter.setdefault(draft.drafter, DrafterStatistics())
            by_drafter._count(own, min(accepted, own))
        if own < drafted:
            by_drafter = self.by_drafter.setdefault(draft.tail, DrafterStatistics())
            by_drafter._count(drafted, accepted, own)
