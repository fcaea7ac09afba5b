"""What `nextn bench serve` measures: a server under load, with drafts and without, and a peer.

All sides get the same requests in turn, so that whatever else the machine does hits all alike.
"""

from nextn.bench.serve.client import Answer, Client, ServerError
from nextn.bench.serve.measure import Measurements, Run, measure
from nextn.bench.serve.report import Report
from nextn.bench.serve.settings import Load, Settings

__all__ = [
    "Answer",
    "Client",
    "Load",
    "Measurements",
    "Report",
    "Run",
    "ServerError",
    "Settings",
    "measure",
]
