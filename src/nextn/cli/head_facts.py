"""A prediction head in full, as the header of its file tells it; no weight is read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from nextn.errors import FileFormatError
from nextn.files import Checkpoint
from nextn.models.head_tensors import declared_head_layers, head_tensor_names

_BLOCK = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class HeadTensor:
    """One tensor of a head; `shape` has the rows first."""

    name: str
    shape: tuple[int, ...]
    format: str
    bytes: int


@dataclass(frozen=True, slots=True)
class HeadDetail:
    """What a head consists of.

    Attributes:
        path: the file that it is in.
        declared: blocks that the file declares for it.
        blocks: blocks that hold its tensors.
        bytes: size of its tensors.
        bits_per_weight: bits in the file per element.
        own_embedding: whether it has embeddings of its own; otherwise it uses the trunk's.
        own_output: the same of the output matrix.
        own_norm: the same of the last norm.
        draft_vocabulary: how many tokens its trim list names; None if it drafts all.
        tensors: all of them, by name.
    """

    path: str
    declared: int
    blocks: tuple[int, ...]
    bytes: int
    bits_per_weight: float
    own_embedding: bool
    own_output: bool
    own_norm: bool
    draft_vocabulary: int | None
    tensors: tuple[HeadTensor, ...]


def head_detail(file: Checkpoint) -> HeadDetail | None:
    """Describe the head in a file; None if there are no tensors of one.

    Args:
        file: a model or a file of heads.
    """
    names = sorted(head_tensor_names(file.tensors))
    if not names:
        return None
    tensors = [file.tensors[name] for name in names]
    trims = [tensor for tensor in tensors if tensor.name.endswith(".nextn.draft_vocab")]
    size = sum(tensor.nbytes for tensor in tensors)
    elements = sum(math.prod(tensor.shape) for tensor in tensors)
    try:
        declared = declared_head_layers(file)
    except FileFormatError:
        declared = 0

    def owns(*roles: str) -> bool:
        return any(name.endswith(f"{role}.weight") for name in names for role in roles)

    return HeadDetail(
        path=str(file.path),
        declared=declared,
        blocks=tuple(sorted({int(match[1]) for name in names if (match := _BLOCK.match(name))})),
        bytes=size,
        bits_per_weight=8 * size / elements,
        own_embedding=owns(".nextn.embed_tokens"),
        own_output=owns(".nextn.shared_head_head"),
        own_norm=owns(".nextn.shared_head_norm", ".layer_output_norm"),
        draft_vocabulary=math.prod(trims[0].shape) if trims else None,
        tensors=tuple(
            HeadTensor(tensor.name, tensor.shape, tensor.block_type.name, tensor.nbytes)
            for tensor in tensors
        ),
    )
