"""The plan: a flat list of operations over numbered buffers, which every executor runs.

A model family describes one step with a `Tracer`; `fuse` merges neighbouring operations that an
executor does better in one pass; `assign_buffers` gives each value a buffer. See `operations` for
the meaning of each operation.
"""

from nextn.plan.buffers import BufferPlan, assign_buffers
from nextn.plan.fuse import fuse
from nextn.plan.observe import observe
from nextn.plan.operations import (
    Activate,
    Add,
    Attend,
    Concat,
    Embed,
    HeadNorm,
    Linear,
    LoadHidden,
    Logits,
    Norm,
    NormWeight,
    Observe,
    Operation,
    Plan,
    Rope,
    Rotary,
    StoreHidden,
    Value,
    Weight,
)
from nextn.plan.tracer import Tracer

__all__ = [
    "Activate",
    "Add",
    "Attend",
    "BufferPlan",
    "Concat",
    "Embed",
    "HeadNorm",
    "Linear",
    "LoadHidden",
    "Logits",
    "Norm",
    "NormWeight",
    "Observe",
    "Operation",
    "Plan",
    "Rope",
    "Rotary",
    "StoreHidden",
    "Tracer",
    "Value",
    "Weight",
    "assign_buffers",
    "fuse",
    "observe",
]
