"""Takes the head out of a model into a file of its own, which the community calls a donor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from nextn.files import Checkpoint, open_checkpoint
from nextn.files.gguf.writer import NewTensor, TensorCopy, write_gguf
from nextn.tools.head_metadata import head_metadata
from nextn.tools.head_parts import HeadParts, HeadResult, find_head_parts, renumbered

if TYPE_CHECKING:
    from nextn.files.sources.progress import ProgressCallback


def extract_head(
    model: Path, output: Path, *, progress: ProgressCallback | None = None
) -> HeadResult:
    """Write a file with the head of a model alone.

    It holds the tensors of the head's blocks, byte for byte, with the head's own embedding, norm
    and output matrix if it has them, what the model says about its shape, and whose vocabulary it
    is for. Tensors are copied without being read into memory.

    Args:
        model: a GGUF file with a head; of a model in parts the first.
        output: the file to write; an existing one is replaced.
        progress: told how far it is.

    Raises:
        UnsupportedModelError: the model has no head.
        FileFormatError: a file that is damaged, or declares a head that it does not hold.
        SourceError: a file that cannot be read.
        OutputError: the output is the input, or there is no space for it.
        OSError: it cannot be written; nothing is left of it.
    """
    with open_checkpoint(model, to_copy=True) as source:
        head = find_head_parts(source)
        write_head(output, source, head, head.first, progress=progress)
        return HeadResult.of([output], head, source, notes=head.notes)


def write_head(
    output: Path,
    source: Checkpoint,
    head: HeadParts,
    first: int,
    *,
    inputs: Iterable[Path] = (),
    progress: ProgressCallback | None = None,
) -> None:
    """Write the head of `source` alone, with its first block numbered `first`.

    Args:
        output: the file to write.
        source: the file that holds it.
        head: where it is there.
        first: the number of its first block in the new file.
        inputs: further files that must not be written over.
        progress: told how far it is.

    Raises:
        NextnError: as `extract_head`.
    """
    tensors: dict[str, NewTensor] = {
        renumbered(name, first - head.first): TensorCopy.of(source.tensors[name])
        for name in head.names
    }
    write_gguf(
        output,
        head_metadata(source, head, first),
        tensors,
        inputs=[*input_paths(source), *inputs],
        progress=progress,
    )


def input_paths(checkpoint: Checkpoint) -> set[Path]:
    """The files of an open model."""
    return {checkpoint.path, *(tensor.path for tensor in checkpoint.tensors.values())}
