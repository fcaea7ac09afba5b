"""Takes the head out of a model: writes the model without it, and the head to a file if asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nextn.errors import OutputError
from nextn.files import open_checkpoint
from nextn.files.gguf.writer import NewTensor, TensorCopy, write_gguf
from nextn.tools.extract import input_paths, write_head
from nextn.tools.head_metadata import detached_metadata
from nextn.tools.head_parts import HeadResult, find_head_parts, trunk_tensors
from nextn.tools.parts import parts_like

if TYPE_CHECKING:
    from nextn.files.sources.progress import ProgressCallback


def detach_head(
    model: Path,
    output: Path,
    *,
    head_output: Path | None = None,
    progress: ProgressCallback | None = None,
) -> HeadResult:
    """Write a model without its head.

    The block count is that of the trunk, and no block is declared to be of a head; all other
    metadata and the bytes of all tensors stay. A model in parts becomes one in parts.

    Args:
        model: a GGUF file with a head; of a model in parts the first.
        output: the file to write; an existing one is replaced.
        head_output: a file for the head alone, see `extract_head`. It is written first, so that no
            moment is without the head.
        progress: told how far it is.

    Raises:
        NextnError: as `extract_head`; also FileFormatError for a file that holds no trunk.
        OSError: a file cannot be written; nothing is left of it.
    """
    with open_checkpoint(model, to_copy=True) as source:
        head = find_head_parts(source)
        kept = trunk_tensors(source, head)
        if head_output is not None and head_output.absolute() == output.absolute():
            raise OutputError(f"{output}: cannot be both the model and its head; name two files")
        if head_output is not None:
            write_head(head_output, source, head, head.first, progress=progress)
        tensors: dict[str, NewTensor] = {
            name: TensorCopy.of(tensor) for name, tensor in kept.items()
        }
        paths = write_gguf(
            output,
            detached_metadata(source, head),
            tensors,
            parts=parts_like(source, (tensor.path for tensor in kept.values())),
            inputs=[*input_paths(source), *([head_output] if head_output else [])],
            progress=progress,
        )
        return HeadResult.of(paths, head, source, head_path=head_output, notes=head.notes)
