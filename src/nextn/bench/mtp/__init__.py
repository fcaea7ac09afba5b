"""What `nextn bench --mtp` runs: real tasks, plainly and with drafts, in alternation.

`settings` says what is measured, `measure` takes the times of the texts that `write` writes,
`forced` asks a head at every position of them, `report` puts all into words, `plot` into a picture.
"""

from nextn.bench.mtp.measure import DifferentTextError, Measurements, Text, measure
from nextn.bench.mtp.report import Report
from nextn.bench.mtp.settings import Settings

__all__ = ["DifferentTextError", "Measurements", "Report", "Settings", "Text", "measure"]
