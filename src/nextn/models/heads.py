"""The heads of an attention layer, as a file declares them."""

from __future__ import annotations

from dataclasses import dataclass

from nextn.errors import FileFormatError
from nextn.files import Checkpoint

MOST_HEAD_WIDTH = 1 << 14
"""Widest head that a file may declare; 512 is in use. Tables are made of it before any tensor is
there to confirm it."""


@dataclass(frozen=True, slots=True)
class Heads:
    """Query heads, key/value heads, and the width of each."""

    queries: int
    keys: int
    width: int


def read_heads(checkpoint: Checkpoint, default_width: int | None = None) -> Heads:
    """Read `attention.head_count`, `head_count_kv` and `key_length`.

    Args:
        checkpoint: the model.
        default_width: of a head, if the file does not say it; by default the width of the hidden
            state divided by the number of query heads.

    Raises:
        FileFormatError: a value out of range, or query heads that do not divide into equal groups,
            one for each key head.
    """
    queries = checkpoint.integer("{arch}.attention.head_count", minimum=1)
    keys = checkpoint.integer("{arch}.attention.head_count_kv", queries, minimum=1)
    if queries % keys:
        raise FileFormatError(
            checkpoint.path,
            f"{checkpoint.architecture}.attention.head_count",
            f"{queries} heads do not divide into {keys} groups, one for each key head",
        )
    if default_width is None:
        default_width = checkpoint.integer("{arch}.embedding_length", minimum=1) // queries
    width = checkpoint.integer(
        "{arch}.attention.key_length", default_width, minimum=1, maximum=MOST_HEAD_WIDTH
    )
    return Heads(queries, keys, width)
