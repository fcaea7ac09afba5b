"""Checks a prediction head: `nextn mtp check`.

    report = check_head(resolve("smollm2"))
    print(report.verdict, report.reason)

`layout` and `pairing` look at what files declare and hold, `values` at the numbers; these work for
every family. `texts` lets the model write and asks the head after every token, `experiments`
changes the head to learn what its parts bring and which mistake was made with it, `costs` measures
time and memory. `report` holds the result.
"""

from nextn.tools.check.check import CheckSettings, check_head
from nextn.tools.check.findings import Finding, Severity, Verdict
from nextn.tools.check.report import Acceptance, CheckReport, Measured
from nextn.tools.check.texts import TextSettings

__all__ = [
    "Acceptance",
    "CheckReport",
    "CheckSettings",
    "Finding",
    "Measured",
    "Severity",
    "TextSettings",
    "Verdict",
    "check_head",
]
