"""Which tensors of a file belong to a prediction head, and which blocks to the trunk.

The convention is llama.cpp's: `{arch}.nextn_predict_layers` says how many blocks of
`{arch}.block_count` belong to the head; they stand last, and hold tensors "blk.N.nextn.*" beside
those of an ordinary block. Tools that drop a head often leave one of the two numbers as it was, so
what the file holds counts more than what it declares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nextn.files import Checkpoint

HEAD_LAYERS_KEY = "{arch}.nextn_predict_layers"

_HEAD_TENSOR = re.compile(r"(?:^|\.)nextn\.")
_IN_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")


def place_of(name: str) -> tuple[int | None, str]:
    """The block that a tensor belongs to, and its name there: "blk.2.attn_q.weight" and so on.

    Outside of blocks the first is None, and the second the name as it is.
    """
    match = _IN_BLOCK.fullmatch(name)
    return (int(match[1]), match[2]) if match else (None, name)


def block_of(name: str) -> int | None:
    """The number of the block that a tensor belongs to; None for those outside of blocks."""
    return place_of(name)[0]


def renumbered(name: str, shift: int) -> str:
    """The name of a tensor in a block so many places further on."""
    block, role = place_of(name)
    return name if block is None else f"blk.{block + shift}.{role}"


def head_tensor_names(names: Iterable[str]) -> set[str]:
    """Tensors of a head: those called nextn, and all others of the blocks that hold them."""
    names = list(names)
    direct = {name for name in names if _HEAD_TENSOR.search(name)}
    blocks = {block_of(name) for name in direct} - {None}
    return direct | {name for name in names if block_of(name) in blocks}


def head_status(declared: int, present: bool) -> str:
    """Return "yes", "no", "missing" (declared only) or "undeclared" (tensors only).

    Args:
        declared: blocks that the file declares for a head.
        present: whether it holds tensors of one.
    """
    if declared:
        return "yes" if present else "missing"
    return "undeclared" if present else "no"


def declared_head_layers(checkpoint: Checkpoint) -> int:
    """How many blocks the metadata gives to a head."""
    return checkpoint.integer(HEAD_LAYERS_KEY, 0, minimum=0)


def is_head_only(checkpoint: Checkpoint) -> bool:
    """Whether a file holds a head, but no trunk."""
    tensors = checkpoint.tensors
    return "blk.0.attn_norm.weight" not in tensors and bool(head_tensor_names(tensors))


def trunk_blocks(checkpoint: Checkpoint) -> int:
    """Number of blocks of the trunk, also of the one that a head-only file was made for.

    Raises:
        FileFormatError: a key that is missing, or has no possible value.
    """
    total = checkpoint.integer("{arch}.block_count", minimum=1)
    layers = checkpoint.integer(HEAD_LAYERS_KEY, 0, minimum=0, maximum=total - 1)
    head = head_tensor_names(checkpoint.tensors)
    blocks = total - layers

    def holds(block: int) -> bool:
        return f"blk.{block}.attn_norm.weight" in checkpoint.tensors

    def belongs_to_head(block: int) -> bool:
        return any(name.startswith(f"blk.{block}.") for name in head)

    # A head that was dropped: the count of all blocks, but not that of the head's, was corrected.
    while blocks < total and holds(blocks) and not belongs_to_head(blocks):
        blocks += 1
    # A head that is not declared.
    while blocks > 1 and belongs_to_head(blocks - 1):
        blocks -= 1
    return blocks
