"""Writes models in smaller block formats."""

from nextn.tools.quantise.file_types import FILE_TYPES
from nextn.tools.quantise.plan import MIX, Settings, TensorPlan, plan_tensors
from nextn.tools.quantise.run import QuantiseResult, quantise_file, quantised_tensors

__all__ = [
    "FILE_TYPES",
    "MIX",
    "QuantiseResult",
    "Settings",
    "TensorPlan",
    "plan_tensors",
    "quantise_file",
    "quantised_tensors",
]
