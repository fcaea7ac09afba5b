"""Quantises a model's file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nextn.backends.cpu.threads import check_threads, default_threads
from nextn.files.gguf.writer import NewTensor, NewValue, write_gguf
from nextn.files.imatrix import ImportanceMatrix, InputSquares, read_imatrix
from nextn.tools.quantise.encode import Encoder
from nextn.tools.quantise.file_types import FILE_TYPES
from nextn.tools.quantise.importance import importance_notes, matching_entries
from nextn.tools.quantise.lattice import lattice_matrices, lattice_notes
from nextn.tools.quantise.notes import fallback_notes, head_notes
from nextn.tools.quantise.plan import Settings, TensorPlan, plan_tensors
from nextn.tools.quantise.source import Source, open_source

if TYPE_CHECKING:
    from nextn.files.sources.progress import ProgressCallback


@dataclass(frozen=True, slots=True)
class QuantiseResult:
    """What was done, or would be done.

    Attributes:
        path: the file that was written; None if nothing was.
        plans: what becomes of each tensor, in the order of the file.
        notes: what else there is to say, a line each.
    """

    path: Path | None
    plans: Sequence[TensorPlan]
    notes: Sequence[str]

    @property
    def source_bytes(self) -> int:
        """Size of all tensors before."""
        return sum(plan.source_bytes for plan in self.plans)

    @property
    def target_bytes(self) -> int:
        """Size of all tensors after."""
        return sum(plan.target_bytes for plan in self.plans)

    @property
    def bits_per_weight(self) -> float:
        """Of the new file."""
        return 8 * self.target_bytes / sum(plan.elements for plan in self.plans)


def quantise_file(
    model: Path,
    output: Path | None,
    settings: Settings,
    *,
    imatrix: Path | None = None,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> QuantiseResult:
    """Write a model in smaller formats.

    Tensors are read, encoded and written some rows at a time. A model in parts becomes one file.

    Args:
        model: a GGUF file, of a model in parts the first; or a folder with a safetensors
            checkpoint, which is converted on the way.
        output: the file to write, an existing one is replaced; None only decides what would be
            done.
        settings: what is wanted.
        imatrix: an importance matrix.
        threads: threads that compute; None chooses. The bytes do not depend on it.
        progress: told how far it is.

    Raises:
        RequestError: an impossible setting, or a model that is quantised already.
        FileFormatError: a damaged file, a value that a format cannot hold (nothing is written
            then), or an importance matrix of another model.
        SourceError: a file that cannot be read.
        OutputError: the output is an input, or there is no space for it.
        OSError: it cannot be written; nothing is left of it.
    """
    threads = default_threads() if threads is None else check_threads(threads)
    with open_source(model) as source:
        matrix = None if imatrix is None else read_imatrix(imatrix)
        entries = {} if matrix is None else matching_entries(matrix, source.tensors)
        plans = plan_tensors(
            source.tensors, source.shape, settings, with_importance=matrix is not None
        )
        lattice = lattice_matrices(source.tensors)
        notes = [
            *source.notes,
            *head_notes(plans, declared=source.declared_head),
            *fallback_notes(plans),
            *lattice_notes(lattice, plans),
        ]
        if matrix is not None:
            notes += importance_notes(matrix, entries, plans)
        if output is None:
            return QuantiseResult(None, plans, notes)
        encoder = Encoder(source.path, threads, lattice)
        write_gguf(
            output,
            _metadata(source, settings, matrix),
            quantised_tensors(source.tensors, plans, entries, encoder),
            inputs=[*source.files, *([] if imatrix is None else [imatrix])],
            progress=progress,
        )
        return QuantiseResult(output, plans, notes)


def quantised_tensors(
    tensors: Mapping[str, NewTensor],
    plans: Sequence[TensorPlan],
    entries: Mapping[str, InputSquares],
    encoder: Encoder,
) -> dict[str, NewTensor]:
    """The tensors of the new file, made from those of any source when they are written.

    Args:
        tensors: by name; copies of a file's, or whatever a conversion makes.
        plans: of all of them, see `plan_tensors`.
        entries: of an importance matrix, by name.
        encoder: what encodes.
    """
    return {
        plan.name: encoder.encoded(
            plan.name, tensors[plan.name], plan.target, entries.get(plan.name)
        )
        if plan.changes
        else tensors[plan.name]
        for plan in plans
    }


def _metadata(
    source: Source, settings: Settings, matrix: ImportanceMatrix | None
) -> dict[str, NewValue]:
    metadata = dict(source.metadata)
    metadata["general.file_type"] = FILE_TYPES[settings.file_type.upper()].id
    metadata["general.quantization_version"] = 2
    if matrix is not None:
        metadata["quantize.imatrix.file"] = matrix.path.name
        metadata["quantize.imatrix.dataset"] = ", ".join(matrix.datasets)
        metadata["quantize.imatrix.entries_count"] = len(matrix.entries)
        metadata["quantize.imatrix.chunks_count"] = matrix.chunk_count
    return metadata
