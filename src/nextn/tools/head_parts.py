"""Where in a file the head is, and where the trunk: by the names of tensors and the declared keys.

Nothing here needs to know how a family computes, so that heads of families that nextn cannot run
are moved, too. What the file holds counts more than what it declares.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files import Checkpoint, Tensor
from nextn.models.head_tensors import HEAD_LAYERS_KEY, declared_head_layers, head_tensor_names

BLOCKS_KEY: Final = "{arch}.block_count"
_BLOCK: Final = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class HeadParts:
    """The head that a file holds.

    Attributes:
        first: number of its first block, which is that of the blocks of its trunk.
        blocks: how many blocks it has.
        names: its tensors, in the order of the file.
        notes: what the file declares wrongly.
    """

    first: int
    blocks: int
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What a tool did with a head.

    Attributes:
        paths: the files that were written: the model, or its parts, or a file with the head alone.
        head_path: a file with the head alone that was written in addition.
        first: number of the head's first block, where it is now.
        blocks: its blocks.
        tensors: their number.
        bytes: their size.
        formats: block formats of its tensors, that with the most bytes first.
        notes: what the user should know.
    """

    paths: tuple[Path, ...]
    head_path: Path | None
    first: int
    blocks: int
    tensors: int
    bytes: int
    formats: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        paths: Iterable[Path],
        head: HeadParts,
        source: Checkpoint,
        *,
        first: int | None = None,
        head_path: Path | None = None,
        notes: Iterable[str] = (),
    ) -> HeadResult:
        """Describe a head of `source` after it was written to `paths`."""
        tensors = [source.tensors[name] for name in head.names]
        sizes: dict[str, int] = {}
        for tensor in tensors:
            kind = tensor.block_type.name
            sizes[kind] = sizes.get(kind, 0) + tensor.nbytes
        return cls(
            paths=tuple(paths),
            head_path=head_path,
            first=head.first if first is None else first,
            blocks=head.blocks,
            tensors=len(tensors),
            bytes=sum(sizes.values()),
            formats=tuple(sorted(sizes, key=lambda kind: -sizes[kind])),
            notes=tuple(dict.fromkeys(notes)),
        )


def block_of(name: str) -> int | None:
    """The number of the block that a tensor belongs to; None for those outside of blocks."""
    match = _BLOCK.match(name)
    return int(match[1]) if match else None


def renumbered(name: str, shift: int) -> str:
    """The name of a tensor in a block so many places further on."""
    block = block_of(name)
    return name if block is None else f"blk.{block + shift}.{_BLOCK.sub('', name, count=1)}"


def find_head_parts(checkpoint: Checkpoint) -> HeadParts:
    """Find the head in a model with a head, or in a file of a head alone.

    Raises:
        UnsupportedModelError: there is none.
        FileFormatError: one is declared but missing, or what is there cannot be one.
    """
    head = locate_head(checkpoint)
    if head is not None:
        return head
    key = HEAD_LAYERS_KEY.format(arch=checkpoint.architecture)
    declared = declared_head_layers(checkpoint)
    if declared:
        raise FileFormatError(
            checkpoint.path,
            key,
            f"declares {declared} block(s) of a prediction head, but the file holds no nextn "
            "tensors; it was made by a tool that dropped them, take the original file",
        )
    raise UnsupportedModelError(f"{checkpoint.path}: holds no prediction head (no nextn tensors)")


def locate_head(checkpoint: Checkpoint) -> HeadParts | None:
    """Like `find_head_parts`, but None if the file holds no tensors of a head.

    Raises:
        FileFormatError: tensors of a head whose blocks are not the last ones, have gaps, or are not
            as many as are declared.
    """
    tensors = checkpoint.tensors
    found = head_tensor_names(tensors)
    blocks = {block for name in found if (block := block_of(name)) is not None}
    if not blocks:
        return None
    declared = declared_head_layers(checkpoint)
    total = checkpoint.integer(BLOCKS_KEY, minimum=1)
    first = min(blocks)
    if declared > len(blocks) and total - declared == first:
        # Further blocks of the head need not have tensors that are called nextn.
        blocks = {block for name in tensors if (block := block_of(name) or 0) >= first}
    last = max(block_of(name) or 0 for name in tensors)
    if blocks != set(range(first, last + 1)):
        raise FileFormatError(
            checkpoint.path,
            f"tensors blk.{first}.*",
            f"the head is in the blocks {_list(blocks)}, which are not the last ones, up to {last}",
        )
    key = HEAD_LAYERS_KEY.format(arch=checkpoint.architecture)
    notes = []
    if declared not in (0, len(blocks)):
        raise FileFormatError(
            checkpoint.path,
            key,
            f"declares {declared} block(s) of a head, but the file holds {len(blocks)}: "
            f"{_list(blocks)}; take a file with all of them",
        )
    if not declared:
        notes.append(f"{checkpoint.path.name} did not declare its head ({key}); now it is declared")
    elif total != last + 1:
        count = BLOCKS_KEY.format(arch=checkpoint.architecture)
        notes.append(f"{checkpoint.path.name}: {count} says {total}, but the last block is {last}")
    names = tuple(name for name in tensors if name in found or (block_of(name) or 0) >= first > 0)
    return HeadParts(first, len(blocks), names, tuple(notes))


def trunk_tensors(checkpoint: Checkpoint, head: HeadParts | None) -> dict[str, Tensor]:
    """All tensors but the head's, in the order of the file.

    Raises:
        FileFormatError: there are none of a trunk, or one of its blocks is missing.
    """
    mine = set() if head is None else set(head.names)
    trunk = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in mine}
    blocks = {block for name in trunk if (block := block_of(name)) is not None}
    count = max(blocks, default=-1) + 1 if head is None else head.first
    missing = set(range(count)) - blocks
    if not blocks or missing:
        what = f"misses the blocks {_list(missing)}" if blocks else "holds no blocks of a trunk"
        raise FileFormatError(checkpoint.path, "tensors blk.*", f"{what}; take the whole model")
    return trunk


def trunk_block_count(tensors: Mapping[str, Tensor]) -> int:
    """How many blocks the tensors of a trunk make."""
    return 1 + max(block for name in tensors if (block := block_of(name)) is not None)


def _list(blocks: Iterable[int]) -> str:
    numbers = sorted(blocks)
    shown = ", ".join(map(str, numbers[:8]))
    return shown if len(numbers) <= 8 else f"{shown} ... {numbers[-1]}"
