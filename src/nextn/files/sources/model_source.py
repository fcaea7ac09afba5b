"""What finding a model gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on this machine.

    Attributes:
        path: its GGUF file; of a split model the first one, beside which the others lie.
        name: what to call it: the short name, the package, the repository, or the file's name
            without its ending.
        head: a file with prediction heads for this model, if one was published beside it.
    """

    path: Path
    name: str
    head: Path | None = None
