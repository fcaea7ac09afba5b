"""Keeps a model that comes in parts in parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nextn.files import Checkpoint
from nextn.files.gguf.writer import part_paths


def parts_like(source: Checkpoint, tensors: Iterable[Path | None]) -> list[int] | None:
    """How many tensors go to each part of a copy, so that its parts are those of `source`.

    Args:
        source: the model.
        tensors: for each tensor of the copy, in order, the part of `source` that it comes from;
            None if it comes from elsewhere, and goes where the one before it is.

    Returns:
        One number for each part; None if the model is one file.
    """
    count = source.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return None
    counts = dict.fromkeys(part_paths(source.path, count), 0)
    last = source.path
    for path in tensors:
        last = path or last
        counts[last] += 1
    return list(counts.values())
