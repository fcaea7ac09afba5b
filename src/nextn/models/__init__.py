"""Model families: one file each, named after the GGUF `general.architecture` that it describes.

A family's file exports a class `Model`, a `Family`: it is made from (checkpoint, weights), reads
its configuration from the checkpoint, and writes its parts down with the tracer. It is found by
its name; there is no list to edit. A family that serves further architectures names them in
`ALSO_SERVES`.

A prediction head is described once for all families: see `nextn.models.nextn_head`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import cast

from nextn.errors import UnsupportedModelError, shown
from nextn.files import Checkpoint, check_vocabulary
from nextn.models.family import Family, HiddenKind
from nextn.models.head_tensors import is_head_only
from nextn.models.weights import WeightReader
from nextn.plan import Plan, Tracer

__all__ = [
    "Family",
    "HiddenKind",
    "known_architectures",
    "load_family",
    "load_model_plan",
]

_SHARED_FILES = {"family", "head_tensors", "heads", "nextn_head", "rotary", "weights"}


@cache
def known_architectures() -> dict[str, str]:
    """Architecture name -> name of the module that describes it."""
    served: dict[str, str] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name in _SHARED_FILES:
            continue
        served[module.name] = module.name
        for name in _family_in(module.name).ALSO_SERVES:
            served[name] = module.name
    return served


def _family_in(module: str) -> type[Family]:
    return cast(type[Family], importlib.import_module(f"{__name__}.{module}").Model)


def load_family(checkpoint: Checkpoint, weights: WeightReader) -> Family:
    """Read the configuration of a checkpoint's model.

    Args:
        checkpoint: an open checkpoint.
        weights: its weights, of which only those that are part of the configuration are read.

    Raises:
        UnsupportedModelError: the architecture is not known, or the file is a head alone.
        FileFormatError: a required key is missing or out of range.
    """
    module = known_architectures().get(checkpoint.architecture)
    if module is None:
        known = ", ".join(sorted(known_architectures()))
        raise UnsupportedModelError(
            f"{checkpoint.path}: general.architecture: {shown(checkpoint.architecture)} is "
            f"not supported; nextn knows {known}"
        )
    if is_head_only(checkpoint):
        raise UnsupportedModelError(
            f"{checkpoint.path}: holds a prediction head without its model; load the model, and "
            "give this file as its head"
        )
    check_vocabulary(checkpoint)
    return _family_in(module)(checkpoint, weights)


def load_model_plan(checkpoint: Checkpoint, hidden_kind: HiddenKind | None = None) -> Plan:
    """Describe a checkpoint's model as a plan, not yet fused.

    Args:
        checkpoint: an open checkpoint; only its header and the scales of its matrices
            are read.
        hidden_kind: which hidden state the plan keeps for a head; by default none.

    Raises:
        UnsupportedModelError: the architecture is not known, or the file holds tensors that its
            family does not use, so that its text would be wrong.
        FileFormatError: a required key or tensor is missing, or a shape is not as declared.
    """
    weights = WeightReader(checkpoint)
    family = load_family(checkpoint, weights)
    step = Tracer()
    family.describe(step, weights, hidden_kind)
    weights.check_all_used()
    return step.plan()
