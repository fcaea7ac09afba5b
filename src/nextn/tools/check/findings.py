"""What a check of a prediction head can say: findings, and one verdict."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs.

    A fault makes the head broken. A doubt is something that good heads seldom have: it makes the
    head weak unless its drafts are measured to be accepted all the same. A note is a fact.
    """

    FAULT = "fault"
    DOUBT = "doubt"
    NOTE = "note"


class Verdict(StrEnum):
    """What a head is, in one word."""

    HEALTHY = "healthy"
    WEAK = "weak"
    DEAD = "dead"
    ABSENT = "absent"
    BROKEN = "broken"

    @property
    def exit_status(self) -> int:
        """What `nextn mtp check` ends with; 2 is the status of an error, as everywhere."""
        return _EXIT_STATUS[self]

    @property
    def meaning(self) -> str:
        """The verdict in a sentence."""
        return _MEANING[self]


_EXIT_STATUS = {
    Verdict.HEALTHY: 0,
    Verdict.WEAK: 3,
    Verdict.DEAD: 4,
    Verdict.ABSENT: 5,
    Verdict.BROKEN: 6,
}
_MEANING = {
    Verdict.HEALTHY: "nothing is wrong with it",
    Verdict.WEAK: "it works, but worse than a head should, or something about it is doubtful",
    Verdict.DEAD: "it runs, but the model takes next to none of its drafts",
    Verdict.ABSENT: "there is none",
    Verdict.BROKEN: "something about it is wrong",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        severity: how much it weighs.
        code: what kind of thing, in a word or two joined by hyphens; stable, for programs.
        where: a tensor, a metadata key or a file.
        text: what was found, and what to do about it.
    """

    severity: Severity
    code: str
    where: str
    text: str


def fault(code: str, where: str, text: str) -> Finding:
    """A finding that makes the head broken."""
    return Finding(Severity.FAULT, code, where, text)


def doubt(code: str, where: str, text: str) -> Finding:
    """A finding that good heads seldom have."""
    return Finding(Severity.DOUBT, code, where, text)


def note(code: str, where: str, text: str) -> Finding:
    """A fact."""
    return Finding(Severity.NOTE, code, where, text)


def has(findings: Iterable[Finding], severity: Severity) -> bool:
    """Whether there is a finding of this severity."""
    return any(finding.severity is severity for finding in findings)


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Faults first, then doubts, then notes; otherwise in the given order."""
    order = list(Severity)
    return sorted(findings, key=lambda finding: order.index(finding.severity))
