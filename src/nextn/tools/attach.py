"""Puts a head into a model, or beside it: any quantisation of its trunk, or a fine-tuned one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from nextn.errors import FileFormatError, OutputError, UnsupportedModelError
from nextn.files import Checkpoint, open_checkpoint
from nextn.files.gguf.writer import NewTensor, TensorCopy, write_gguf
from nextn.models.head_tensors import declared_head_layers
from nextn.tools.compatibility import compare_head
from nextn.tools.extract import input_paths, write_head
from nextn.tools.head_metadata import attached_metadata
from nextn.tools.head_parts import (
    BLOCKS_KEY,
    HeadParts,
    HeadResult,
    block_of,
    find_head_parts,
    locate_head,
    renumbered,
    trunk_block_count,
    trunk_tensors,
)
from nextn.tools.parts import parts_like

if TYPE_CHECKING:
    from nextn.files.sources.progress import ProgressCallback

_REFUSED_BY_LLAMA_CPP: Final = ("llama", "gemma3", "qwen2", "qwen3")
"""Architectures that have no heads in llama.cpp: it counts one tensor too many, and stops."""


def attach_head(
    trunk: Path,
    head: Path,
    output: Path,
    *,
    force: bool = False,
    progress: ProgressCallback | None = None,
) -> HeadResult:
    """Write a model with a head in it.

    All tensors keep their bytes; those of the head get the numbers of the blocks after the trunk's.
    Its block count, the count of the head's blocks and what the head's file says about itself are
    the only metadata that change. A model in parts becomes one in parts.

    Args:
        trunk: a GGUF file without a head; of a model in parts the first.
        head: a file of a head alone, or another model with one.
        output: the file to write; an existing one is replaced.
        force: attach it even if it was hardly made for this trunk.
        progress: told how far it is.

    Raises:
        UnsupportedModelError: they do not belong together, with all reasons; the trunk has a head
            already, or the other file has none.
        FileFormatError: a damaged file, or one with blocks missing.
        SourceError: a file that cannot be read.
        OutputError: the output is an input, or there is no space for it.
        OSError: it cannot be written; nothing is left of it.
    """
    with (
        open_checkpoint(trunk, to_copy=True) as model,
        open_checkpoint(head, to_copy=True) as source,
    ):
        parts, blocks, notes = _fit(model, source, force)
        shift = blocks - parts.first
        own: list[tuple[str, NewTensor, Path | None]] = [
            (name, TensorCopy.of(tensor), tensor.path) for name, tensor in model.tensors.items()
        ]
        added: list[tuple[str, NewTensor, Path | None]] = [
            (renumbered(name, shift), TensorCopy.of(source.tensors[name]), None)
            for name in parts.names
        ]
        # Behind the last block, where converters write it.
        place = 1 + max(n for n, (name, *_) in enumerate(own) if block_of(name) is not None)
        rows = [*own[:place], *added, *own[place:]]
        paths = write_gguf(
            output,
            attached_metadata(model, blocks, source, parts),
            {name: tensor for name, tensor, _ in rows},
            parts=parts_like(model, (path for *_, path in rows)),
            inputs=[*input_paths(model), *input_paths(source)],
            progress=progress,
        )
        if model.architecture in _REFUSED_BY_LLAMA_CPP:
            notes.append(
                f"llama.cpp does not load {model.architecture} models with a head inside; for "
                "programs that use it, put the head beside the model (--in-sidecar)"
            )
        return HeadResult.of(paths, parts, source, first=blocks, notes=notes)


def attach_beside(
    trunk: Path,
    head: Path,
    *,
    force: bool = False,
    replace: bool = False,
    progress: ProgressCallback | None = None,
) -> HeadResult:
    """Put a head beside a model, which is not touched, under the name where nextn looks for it.

    Args:
        trunk: as for `attach_head`.
        head: as there.
        force: as there.
        replace: write over a file that has this name already.
        progress: as there.

    Raises:
        NextnError: as `attach_head`; also OutputError if there is such a file already.
    """
    output = beside_path(trunk)
    with (
        open_checkpoint(trunk, to_copy=True) as model,
        open_checkpoint(head, to_copy=True) as source,
    ):
        parts, blocks, notes = _fit(model, source, force)
        if output.exists() and not replace and not output.samefile(head):
            raise OutputError(
                f"{output}: exists already; move it away, or use force (--force) to replace it"
            )
        write_head(output, source, parts, blocks, inputs=input_paths(model), progress=progress)
        return HeadResult.of([output], parts, source, first=blocks, notes=notes)


def beside_path(trunk: Path) -> Path:
    """The name of a file with a head beside a model's file, where nextn finds it."""
    return trunk.with_name(f"mtp-{trunk.name}")


def _fit(model: Checkpoint, source: Checkpoint, force: bool) -> tuple[HeadParts, int, list[str]]:
    """Where the head is, how many blocks the trunk has, and what there is to say about both.

    Raises:
        NextnError: they do not belong together.
    """
    parts = find_head_parts(source)
    inside = locate_head(model)
    if inside is not None:
        what = "is a head alone" if len(inside.names) == len(model.tensors) else "has a head"
        raise UnsupportedModelError(
            f"{model.path}: {what} already; name the model without one first, or take the head out "
            "of it with nextn mtp detach"
        )
    blocks = trunk_block_count(trunk_tensors(model, None))
    found = compare_head(model, blocks, source, parts)
    notes = found.check(model, source, force=force)
    left = [name for name in source.tensors if name not in set(parts.names)]
    if left and not any(block_of(name) is not None for name in left):
        notes.append(
            f"{', '.join(left)} of {source.path.name} belong to a trunk and are not attached; the "
            "head uses those of this model"
        )
    return parts, blocks, [*parts.notes, *notes, *_count_notes(model, blocks, parts)]


def _count_notes(model: Checkpoint, blocks: int, parts: HeadParts) -> list[str]:
    """What tools that dropped a head left behind in the model's counts, which is put right."""
    total = model.integer(BLOCKS_KEY, minimum=1)
    declared = declared_head_layers(model)
    if total - blocks not in (0, declared, parts.blocks):
        raise FileFormatError(
            model.path,
            BLOCKS_KEY.format(arch=model.architecture),
            f"says {total} blocks, but the file holds {blocks}; take the whole model",
        )
    if not declared and total == blocks:
        return []
    return [
        f"{model.path.name} declared {total} blocks, {declared} of them of a head that it does not "
        "hold; the counts are right in what was written"
    ]
