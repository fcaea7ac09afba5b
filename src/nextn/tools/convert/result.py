"""What a conversion did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What was written, and what was left out.

    Attributes:
        path: the file.
        architecture: `general.architecture`.
        bytes: its size.
        tensors: how many it holds.
        types: block format -> bytes.
        layouts: how the source stored its weights -> bytes.
        head: what became of the prediction head, in a sentence.
        head_tensors: tensors of a head in the file.
        left_out: names in the source that are not in the file.
        notes: what the user should know.
    """

    path: Path
    architecture: str
    bytes: int
    tensors: int
    types: dict[str, int]
    layouts: dict[str, int]
    head: str
    head_tensors: int
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
