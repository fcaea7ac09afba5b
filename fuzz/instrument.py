"""Imports modules such that libFuzzer sees which of their branches an input takes."""

from __future__ import annotations

import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from typing import Any

import atheris


def instrumented(*packages: str) -> Any:
    """Return a context in which the modules of these packages are instrumented when imported."""
    # Atheris sees nothing of modules that the finder of an editable install loads. Their source is
    # on the path, where `run.py` puts it; the finder is still needed for the native module.
    standard = (BuiltinImporter, FrozenImporter, PathFinder)
    sys.meta_path.sort(key=lambda finder: finder not in standard)
    return atheris.instrument_imports(include=list(packages))
