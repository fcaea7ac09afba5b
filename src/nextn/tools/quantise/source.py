"""What is quantised: a GGUF file, or a safetensors checkpoint that is converted on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nextn.files import open_checkpoint
from nextn.files.gguf.writer import NewTensor, NewValue, TensorCopy
from nextn.models.head_tensors import HEAD_LAYERS_KEY
from nextn.tools.convert import open_conversion
from nextn.tools.quantise.mixes import ModelShape


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is to be quantised.

    Attributes:
        path: of the file or folder.
        metadata: all keys of the new file, but those that quantising changes.
        tensors: by name, in the order of the file.
        shape: what the mixes depend on.
        declared_head: blocks of a prediction head that the metadata declare.
        files: those that it comes from.
        notes: what the user should know.
    """

    path: Path
    metadata: Mapping[str, NewValue]
    tensors: Mapping[str, NewTensor]
    shape: ModelShape
    declared_head: int
    files: Sequence[Path]
    notes: Sequence[str] = ()


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a model; its tensors can be read as long as the context is open.

    Args:
        path: a GGUF file, of a model in parts the first; or a folder with a safetensors checkpoint.

    Raises:
        NextnError: as `open_checkpoint` and `convert`.
    """
    if path.is_dir():
        with open_conversion(path) as made:
            yield Source(
                path,
                made.metadata,
                made.tensors,
                ModelShape.of(path, made.architecture, made.metadata),
                _declared(made.architecture, made.metadata),
                made.files,
                made.notes,
            )
        return
    with open_checkpoint(path, to_copy=True) as checkpoint:
        yield Source(
            path,
            checkpoint.encoded_metadata,
            {name: TensorCopy.of(tensor) for name, tensor in checkpoint.tensors.items()},
            ModelShape.of(path, checkpoint.architecture, checkpoint.metadata),
            _declared(checkpoint.architecture, checkpoint.metadata),
            sorted({path, *(tensor.path for tensor in checkpoint.tensors.values())}),
        )


def _declared(architecture: str, metadata: Mapping[str, object]) -> int:
    value = metadata.get(HEAD_LAYERS_KEY.format(arch=architecture), 0)
    return value if isinstance(value, int) else 0
