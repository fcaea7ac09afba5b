"""What `nextn bench` runs: how fast an executor steps a model, and how fast it could at most.

`settings` says what is measured, `sequences` fills and steps an executor, `measure` takes the
times, `limits` computes what the machine allows, `report` puts both into words.
"""

from nextn.bench.limits import Limits, StepCosts, Work, measure_limits
from nextn.bench.measure import Measurement, measure
from nextn.bench.report import Report
from nextn.bench.run import run_benchmark
from nextn.bench.settings import Case, Settings

__all__ = [
    "Case",
    "Limits",
    "Measurement",
    "Report",
    "Settings",
    "StepCosts",
    "Work",
    "measure",
    "measure_limits",
    "run_benchmark",
]
