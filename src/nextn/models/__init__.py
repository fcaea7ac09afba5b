"""Model families: one file each, named after the GGUF `general.architecture` that it describes.

A family's file exports `describe(checkpoint, weights, step)`, which reads its configuration from
the checkpoint and writes one step down with the tracer. It is found by its name; there is no list
to edit. A file that serves further architectures names them in `ALSO_SERVES`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Protocol, cast

from nextn.errors import UnsupportedModelError, shown
from nextn.files import Checkpoint, check_vocabulary
from nextn.models.weights import WeightReader
from nextn.plan import Plan, Tracer

_SHARED_FILES = {"heads", "rotary", "weights"}


class ModelFamily(Protocol):
    """What a family's file exports."""

    def describe(self, checkpoint: Checkpoint, weights: WeightReader, step: Tracer) -> None:
        """Write down one step of the model."""


@cache
def known_architectures() -> dict[str, str]:
    """Architecture name -> name of the module that describes it."""
    served: dict[str, str] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name in _SHARED_FILES:
            continue
        served[module.name] = module.name
        family = importlib.import_module(f"{__name__}.{module.name}")
        for name in getattr(family, "ALSO_SERVES", ()):
            served[name] = module.name
    return served


def load_model_plan(checkpoint: Checkpoint) -> Plan:
    """Describe a checkpoint's model as a plan, not yet fused.

    Args:
        checkpoint: an open checkpoint; only its header and the scales of its matrices
            are read.

    Raises:
        UnsupportedModelError: the architecture is not known, or the file holds tensors that its
            family does not use, so that its text would be wrong.
        FileFormatError: a required key or tensor is missing, or a shape is not as declared.
    """
    module = known_architectures().get(checkpoint.architecture)
    if module is None:
        known = ", ".join(sorted(known_architectures()))
        raise UnsupportedModelError(
            f"{checkpoint.path}: general.architecture: {shown(checkpoint.architecture)} is "
            f"not supported; nextn knows {known}"
        )
    check_vocabulary(checkpoint)
    family = cast(ModelFamily, importlib.import_module(f"{__name__}.{module}"))
    weights = WeightReader(checkpoint)
    step = Tracer()
    family.describe(checkpoint, weights, step)
    weights.check_all_used()
    return step.plan()
