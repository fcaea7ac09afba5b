"""Writes the GGUF file of a safetensors checkpoint, its prediction head included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nextn.errors import FileFormatError, OutputError, UnsupportedModelError
from nextn.files.gguf.new_tensors import tensor_bytes
from nextn.files.gguf.writer import NewTensor, NewValue, write_gguf
from nextn.files.safetensors import SafetensorsFolder, open_safetensors
from nextn.files.safetensors.quantised import Weights, find_weights
from nextn.models.nextn_head import TRUNK_KEY, VOCAB_HASH_KEY, hash_of_tokens
from nextn.tools.convert.encode import (
    AUTOMATIC,
    ENCODINGS,
    FILE_TYPES,
    choose,
    new_tensor,
    vector_tensor,
)
from nextn.tools.convert.families import Dimensions, FamilyMap
from nextn.tools.convert.head_names import head_like
from nextn.tools.convert.names import Placement, Target, check_placement, find_embedding, place
from nextn.tools.convert.result import ConvertResult
from nextn.tools.convert.rope import rope_factors
from nextn.tools.convert.settings import (
    declared_head_blocks,
    find_family,
    is_tied,
    model_metadata,
    read_dimensions,
)
from nextn.tools.convert.vocabulary import Vocabulary, read_vocabulary

if TYPE_CHECKING:
    from nextn.files.safetensors import Config
    from nextn.files.sources.progress import ProgressCallback

Part = Literal["all", "trunk", "head"]
"""What of a model is written."""

_COMPARED = 1 << 22
_HEAD_TOKENIZER_KEYS = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class _Source:
    """A checkpoint after everything about it was checked."""

    folder: SafetensorsFolder
    family: FamilyMap
    config: Config
    sizes: Dimensions
    weights: Weights
    placement: Placement


def convert(
    source: str | Path,
    path: str | Path,
    *,
    output_type: str = AUTOMATIC,
    part: Part = "all",
    progress: ProgressCallback | None = None,
) -> ConvertResult:
    """Convert a safetensors checkpoint to a GGUF file.

    Everything is checked before the first byte is written. Tensors are decoded and written some
    rows at a time.

    Args:
        source: a folder as the Hugging Face hub has it.
        path: the GGUF file; an existing one is replaced when the new one is complete.
        output_type: what matrices become: "f32", "f16", "bf16", "q8_0", or "auto" for the precision
            that they have. All else is F32.
        part: "all", "trunk" to leave a prediction head out, "head" for a file with it alone.
        progress: told "writing NAME", bytes so far, and all bytes.

    Raises:
        SourceError: a file of the checkpoint that is missing or cannot be read.
        FileFormatError: a file that breaks the rules of its format, or files that contradict each
            other.
        UnsupportedModelError: a family, setting, tensor or tokenizer that nextn does not know.
        OutputError: the file cannot be written there.
    """
    path = Path(path)
    if output_type not in (AUTOMATIC, *ENCODINGS):
        known = ", ".join((AUTOMATIC, *ENCODINGS))
        raise OutputError(
            f"{path}: the type {output_type!r} is not supported; nextn writes {known}"
        )
    with open_conversion(source, output_type=output_type, part=part) as made:
        write_gguf(path, made.metadata, made.tensors, inputs=made.files, progress=progress)
        types: dict[str, int] = {}
        for tensor in made.tensors.values():
            kind = tensor.block_type.name
            types[kind] = types.get(kind, 0) + tensor_bytes(tensor)
        return ConvertResult(
            path=path,
            architecture=made.architecture,
            bytes=path.stat().st_size,
            tensors=len(made.tensors),
            types=types,
            layouts=made.layouts,
            head=made.head,
            head_tensors=made.head_tensors,
            left_out=made.left_out,
            notes=tuple(made.notes),
        )


@dataclass(frozen=True, slots=True)
class Conversion:
    """The GGUF file of a checkpoint, as it would be written.

    Attributes:
        architecture: `general.architecture`.
        metadata: all keys.
        tensors: by name, in the order of the file; made when they are written.
        files: those of the checkpoint.
        layouts: how the source stored its weights -> bytes.
        head: what became of the prediction head, in a sentence.
        head_tensors: tensors of a head in the file.
        left_out: names in the source that are not in the file.
        notes: what the user should know.
    """

    architecture: str
    metadata: dict[str, NewValue]
    tensors: dict[str, NewTensor]
    files: Sequence[Path]
    layouts: dict[str, int]
    head: str
    head_tensors: int
    left_out: tuple[str, ...]
    notes: Sequence[str]


@contextmanager
def open_conversion(
    source: str | Path, *, output_type: str = AUTOMATIC, part: Part = "all"
) -> Iterator[Conversion]:
    """Check a safetensors checkpoint, and describe its GGUF file; for `convert` and others.

    The tensors can be read as long as the context is open. Arguments and errors as `convert`.
    """
    notes: list[str] = []
    with open_safetensors(Path(source)) as folder:
        checked = _check_source(folder, part, notes)
        vocabulary = read_vocabulary(folder, checked.sizes.vocabulary, notes)
        trunk, head = checked.placement.trunk, checked.placement.head
        wanted = {
            **({} if part == "head" else _ordered(trunk)),
            **({} if part == "trunk" else _ordered(head)),
        }
        tensors = _new_tensors(checked, wanted, output_type, part, notes)
        metadata = _metadata(checked, vocabulary, tensors, part, notes)
        yield Conversion(
            architecture=checked.family.architecture,
            metadata=metadata,
            tensors=tensors,
            files=list(folder.files),
            layouts=checked.weights.layouts(),
            head=_head_text(checked, part),
            head_tensors=0 if part == "trunk" else len(head),
            left_out=tuple(_left_out(checked, wanted.values())),
            notes=notes,
        )


def _check_source(folder: SafetensorsFolder, part: Part, notes: list[str]) -> _Source:
    family, config = find_family(folder)
    weights = find_weights(folder)
    prefix, embedding = find_embedding(weights.by_name, folder.path)
    sizes = read_dimensions(family, config, embedding.shape[0])
    placement = place(family, sizes, prefix, weights.by_name.values(), folder.path)
    if folder.unlisted:
        notes.append(
            f"the index does not list {len(folder.unlisted)} tensors that the shards hold, such as "
            f"{folder.unlisted[0]}; they count all the same"
        )
    if folder.other_files:
        notes.append(f"not read: {', '.join(folder.other_files[:_SHOWN])}")
    check_placement(family, sizes, placement, folder.path, with_head=part != "trunk")
    checked = _Source(folder, family, config, sizes, weights, placement)
    _check_output(checked, notes)
    if part != "trunk":
        _check_head(checked, part, notes)
    return checked


def _check_output(source: _Source, notes: list[str]) -> None:
    """Settle whether the output matrix is the embedding."""
    trunk, path = source.placement.trunk, source.folder.path
    own = trunk.get("output.weight")
    if not is_tied(source.family, source.folder, source.config):
        if own is None:
            raise FileFormatError(
                path,
                "tensor lm_head.weight",
                "is missing, and tie_word_embeddings is not set in config.json",
            )
    elif own is not None:
        if not _equal(own, trunk["token_embd.weight"]):
            raise FileFormatError(
                path,
                f"tensor {own.weight.name}",
                "is not the embedding, although config.json says tie_word_embeddings",
            )
        del trunk["output.weight"]
        source.placement.ignored.append(own.weight.name)
        notes.append(f"{own.weight.name} is the embedding once more, and is not written")


def _equal(one: Target, other: Target) -> bool:
    rows, columns = one.weight.shape
    step = max(1, _COMPARED // columns)
    return all(
        np.array_equal(
            one.weight.rows(start, min(start + step, rows)),
            other.weight.rows(start, min(start + step, rows)),
        )
        for start in range(0, rows, step)
    )


def _check_head(source: _Source, part: Part, notes: list[str]) -> None:
    """Check that the head is what is declared."""
    blocks, path = source.placement.head_blocks, source.folder.path
    declared = declared_head_blocks(source.folder, source.config)
    if declared is not None and declared[1] != blocks:
        key, count = declared
        holds = f"{blocks}" if blocks else "no tensor of one"
        raise FileFormatError(
            source.config.path,
            key,
            f"declares {count} block(s) of a prediction head, but {path} holds {holds}; a tool may "
            "have dropped it: take the original, or --no-head for the model without",
        )
    if blocks and declared is None:
        notes.append("config.json did not declare the prediction head; the file does")
    if part == "head" and not blocks:
        raise UnsupportedModelError(f"{path}: holds no prediction head")


def _ordered(targets: Mapping[str, Target]) -> dict[str, Target]:
    """Tensors as files mostly have them: block by block, by the order of their names in it."""

    def place_of(name: str) -> tuple[int, int, str]:
        if name.startswith("blk."):
            return 1, int(name.split(".")[1]), name
        return (0 if name.startswith("token_embd") else 2), 0, name

    return {name: targets[name] for name in sorted(targets, key=place_of)}


def _new_tensors(
    source: _Source,
    wanted: Mapping[str, Target],
    output_type: str,
    part: Part,
    notes: list[str],
) -> dict[str, NewTensor]:
    tensors: dict[str, NewTensor] = {}
    other: list[str] = []
    for name, target in wanted.items():
        encoding = choose(target, output_type)
        is_matrix = len(target.weight.shape) > 1
        if is_matrix and output_type != AUTOMATIC and encoding != ENCODINGS[output_type]:
            other.append(name)
        tensors[name] = new_tensor(target, encoding, source.family, source.sizes)
    factors = rope_factors(source.family, source.config, source.sizes)
    if factors is not None and part != "head":
        tensors["rope_freqs.weight"] = vector_tensor(factors)
    if other:
        notes.append(
            f"{len(other)} matrices, such as {other[0]}, have rows that {output_type} does not "
            "divide, and are BF16"
        )
    return tensors


def _metadata(
    source: _Source,
    vocabulary: Vocabulary,
    tensors: Mapping[str, NewTensor],
    part: Part,
    notes: list[str],
) -> dict[str, NewValue]:
    arch = source.family.architecture
    name = source.folder.folder.resolve().name
    head_blocks = 0 if part == "trunk" else source.placement.head_blocks
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        if len(tensor.shape) > 1:
            kind = tensor.block_type.name
            sizes[kind] = sizes.get(kind, 0) + tensor_bytes(tensor)
    most = max(sizes, key=lambda kind: sizes[kind])
    model: dict[str, NewValue] = {f"{arch}.block_count": source.sizes.blocks + head_blocks}
    if head_blocks:
        model[f"{arch}.nextn_predict_layers"] = head_blocks
    model |= model_metadata(source.family, source.config, source.sizes, notes)
    if part == "head":
        # The same, and in the same order, as for a head that is extracted from the whole file.
        return {
            "general.architecture": arch,
            "general.type": "model",
            "general.name": f"{name} nextn head",
            "general.quantization_version": 2,
            **dict(sorted(model.items())),
            **{key: vocabulary.metadata[key] for key in _HEAD_TOKENIZER_KEYS},
            TRUNK_KEY: name,
            VOCAB_HASH_KEY: hash_of_tokens(vocabulary.tokens),
        }
    keys: dict[str, NewValue] = {
        "general.architecture": arch,
        "general.type": "model",
        "general.name": name,
    }
    if most in FILE_TYPES:
        keys["general.file_type"] = FILE_TYPES[most]
    keys["general.quantization_version"] = 2
    return keys | model | vocabulary.metadata


def _head_text(source: _Source, part: Part) -> str:
    """What became of the head."""
    placement = source.placement
    like = head_like(placement.unknown)
    count = len(placement.head) + len(like)
    if not count:
        declared = declared_head_blocks(source.folder, source.config)
        if declared is not None:
            return f"{declared[0]} declares one, but the checkpoint holds none; not declared now"
        return "the checkpoint holds none"
    if part == "trunk":
        names = sorted([*(target.weight.name for target in placement.head.values()), *like])
        shown = ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")
        return f"left out: {count} tensors ({shown})"
    blocks = placement.head_blocks
    what = "alone" if part == "head" else "in the file"
    return f"{what}: {blocks} block{'' if blocks == 1 else 's'}, {len(placement.head)} tensors"


def _left_out(source: _Source, written: Iterable[Target]) -> list[str]:
    """Names of everything in the checkpoint that is not in the file."""
    used = {part.name for target in written for part in target.weight.parts.values()}
    return sorted(source.folder.tensors.keys() - used)
