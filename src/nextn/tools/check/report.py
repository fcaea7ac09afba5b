"""The result of a check: one verdict, and all that it rests on, as JSON and for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from nextn.heads import HeadOrigin
from nextn.tools.check.costs import HeadCosts
from nextn.tools.check.experiments import Experiments, Outcome
from nextn.tools.check.findings import Finding, Severity, Verdict, has
from nextn.tools.check.layout import HeadLayout
from nextn.tools.check.values import TensorFacts

ALL = "all"
"""The name of all categories together."""

DEAD_BELOW = 0.10
"""Share of right first drafts below which a head is dead."""

WEAK_BELOW = 0.30
"""Share of right first drafts below which a head is weak."""

DOUBTFUL_BELOW = 0.50
"""The same, where something about it is doubtful."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How well a head follows the trunk's own texts of one category.

    Attributes:
        category: its name, or "all".
        positions: after how many tokens it was asked.
        shares: right drafts by depth, as a share of those all before which were right.
    """

    category: str
    positions: int
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """What only a model that runs can show.

    Attributes:
        acceptance: by category, then over all.
        same_text: whether the texts were the same with and without drafts.
        experiments: with the head; None if they need too much memory.
        costs: what it costs here.
    """

    acceptance: tuple[Acceptance, ...]
    same_text: bool
    experiments: Experiments | None
    costs: HeadCosts

    @property
    def first(self) -> float:
        """Share of right first drafts over all texts."""
        shares = self.acceptance[-1].shares
        return shares[0] if shares else 0.0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check.

    Attributes:
        name: of the model.
        trunk: its file.
        head: the file of the head; None if there is none.
        origin: where the head was found.
        layout: where in its file the head is; None if that cannot be told.
        tensors: what each of its tensors is.
        findings: faults first, then doubts, then notes.
        measured: acceptance and costs; None if they were not measured.
        not_measured: why not.
    """

    name: str
    trunk: str
    head: str | None
    origin: HeadOrigin | None
    layout: HeadLayout | None
    tensors: tuple[TensorFacts, ...]
    findings: tuple[Finding, ...]
    measured: Measured | None
    not_measured: str | None

    @property
    def verdict(self) -> Verdict:
        """One word; see `Verdict`."""
        if self.layout is not None and not self.layout.tensors:
            return Verdict.ABSENT
        if has(self.findings, Severity.FAULT):
            return Verdict.BROKEN
        doubtful = has(self.findings, Severity.DOUBT)
        if self.measured is None:
            if self.head is None:
                return Verdict.ABSENT
            return Verdict.WEAK if doubtful else Verdict.HEALTHY
        if self.measured.first < DEAD_BELOW:
            return Verdict.DEAD
        least = DOUBTFUL_BELOW if doubtful else WEAK_BELOW
        return Verdict.WEAK if self.measured.first < least else Verdict.HEALTHY

    @property
    def reason(self) -> str:
        """The verdict in a sentence."""
        verdict = self.verdict
        if verdict is Verdict.HEALTHY and self.measured is None:
            return f"{verdict.meaning} that can be seen without running it: {self.not_measured}"
        if self.measured is not None and verdict in (Verdict.HEALTHY, Verdict.WEAK, Verdict.DEAD):
            return f"{self.measured.first:.1%} of its first drafts are what the model writes"
        worst = next(iter(self.findings), None)
        return verdict.meaning if worst is None else f"{worst.where}: {worst.text}"

    def as_record(self) -> dict[str, Any]:
        """Everything, to be written as JSON."""
        record = asdict(self)
        for tensor in record["tensors"]:
            if not tensor["finite"]:  # JSON has no NaN
                tensor |= dict.fromkeys(("least", "most", "mean", "rms"))
        record["verdict"] = str(self.verdict)
        record["exit_status"] = self.verdict.exit_status
        record["reason"] = self.reason
        if self.measured is not None:
            measured = record["measured"]
            measured["costs"]["recommendation"] = self.measured.costs.recommendation
            if self.measured.experiments is not None:
                for kind in ("parts", "repairs"):
                    outcomes = getattr(self.measured.experiments, kind)
                    measured["experiments"][kind] = [_outcome_record(one) for one in outcomes]
        return record

    def acceptance_rows(self) -> Iterator[tuple[str, ...]]:
        """A table of acceptance, with its head; nothing where it was not measured."""
        if self.measured is None:
            return
        depth = max((len(one.shares) for one in self.measured.acceptance), default=0)
        yield ("TEXTS", "POSITIONS", *(f"DRAFT {n}" for n in range(1, depth + 1)))
        for one in self.measured.acceptance:
            shares = [f"{share:.1%}" for share in one.shares]
            yield (one.category, f"{one.positions}", *shares, *[""] * (depth - len(shares)))

    def estimate_rows(self) -> Iterator[tuple[str, ...]]:
        """A table of what to expect of each depth, with its head."""
        if self.measured is None or not self.measured.costs.estimates:
            return
        yield ("DRAFTS/STEP", "TOKENS/STEP", "COST", "SPEED-UP")
        for one in self.measured.costs.estimates:
            yield (
                f"{one.depth}",
                f"{one.tokens:.2f}",
                f"{one.cost:.2f}",
                f"{one.speed_up:.2f}",
            )

    def part_rows(self) -> Iterator[tuple[str, ...]]:
        """A table of what the parts bring, with its head."""
        if self.measured is None or self.measured.experiments is None:
            return
        found = self.measured.experiments
        yield ("EXPERIMENT", "RIGHT", "GAINED", "LOST")
        yield ("the head as it is, in float32", f"{found.share:.1%}", "", "")
        for one in found.parts:
            text = f"without its {one.change.text}"
            yield (text, f"{one.share:.1%}", f"{one.gained}", f"{one.lost}")


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    return {
        "code": outcome.change.code,
        "text": outcome.change.text,
        "share": outcome.share,
        "gained": outcome.gained,
        "lost": outcome.lost,
        "deviations": outcome.deviations,
    }
