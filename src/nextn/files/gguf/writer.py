"""Writes GGUF files, version 3, in one file or in parts, with little memory for any size.

    write_gguf(path, {**model.encoded_metadata, "general.name": "mine"},
               {name: TensorCopy.of(tensor) for name, tensor in model.tensors.items()})

Tensors stand in the order that they are given in, one behind the other, each at a multiple of
`general.alignment`, as ggml demands it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

import numpy as np

from nextn.errors import OutputError
from nextn.files.gguf import limits
from nextn.files.gguf.encoding import NewValue, encode_string, encode_value
from nextn.files.gguf.new_tensors import (
    NewTensor,
    OpenFiles,
    TensorBytes,
    TensorCopy,
    TensorPieces,
    tensor_bytes,
)
from nextn.files.gguf.parts import SPLIT_NAME
from nextn.files.gguf.values import U32
from nextn.files.replacing import replacing_all

if TYPE_CHECKING:
    from nextn.files.sources.progress import ProgressCallback

__all__ = [
    "NewTensor",
    "NewValue",
    "TensorBytes",
    "TensorCopy",
    "TensorPieces",
    "check_outputs",
    "part_paths",
    "parts_by_size",
    "write_gguf",
]

_VERSION: Final = 3
_SPLIT_KEYS: Final = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True, slots=True)
class _Part:
    """One file: its name, what stands before the tensors, and these."""

    path: Path
    header: bytes
    tensors: dict[str, NewTensor]

    def stored_bytes(self, files: OpenFiles) -> int:
        return len(self.header) + sum(each.stored_bytes(files) for each in self.tensors.values())


def write_gguf(
    path: Path,
    metadata: Mapping[str, NewValue],
    tensors: Mapping[str, NewTensor],
    *,
    parts: Sequence[int] | None = None,
    inputs: Iterable[Path] = (),
    progress: ProgressCallback | None = None,
) -> list[Path]:
    """Write a model, first under other names; existing files are replaced when it is complete.

    Args:
        path: the file. Of a model in parts NAME.gguf stands for NAME-00001-of-00002.gguf and so on.
        metadata: in the order of the file; `general.alignment` counts. `split.*` is left out, since
            it is about the parts of another file.
        tensors: by name, in the order of the file.
        parts: how many tensors each part gets; None for one file. See `parts_by_size`.
        inputs: files that must not be written over, in addition to those that tensors come from.
        progress: told "writing NAME", the bytes of tensors so far, and those of all.

    Returns:
        The files.

    Raises:
        OutputError: an output is one of the inputs, there is no space for it, or it holds what GGUF
            does not allow; nothing is written.
        SourceError: a file that tensors are copied from became shorter; nothing is left.
        OSError: it cannot be written; nothing is left of it.
        ValueError: a value or a shape that GGUF does not have, pieces of another size than the
            tensor's, or parts that are not of all tensors.
    """
    metadata = {key: value for key, value in metadata.items() if key not in _SPLIT_KEYS}
    alignment = _alignment(path, metadata)
    files = _lay_out(path, metadata, tensors, parts, alignment)
    sources = {tensor.source for tensor in tensors.values()} - {None}
    check_outputs([file.path for file in files], [*sources, *inputs])
    report = _Report(
        progress, f"writing {path.name}", sum(tensor_bytes(each) for each in tensors.values())
    )
    with OpenFiles() as opened, replacing_all([file.path for file in files]) as partials:
        _check_space(path, sum(file.stored_bytes(opened) for file in files))
        report.add(0)
        for file, partial in zip(files, partials, strict=True):
            with partial.open("wb") as out:
                _write_part(out, file, alignment, opened, report)
                out.flush()
                os.fsync(out.fileno())
    return [file.path for file in files]


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path | None]) -> None:
    """Refuse to write over a file that is read, by whatever name, or where no file can be.

    Raises:
        OutputError: an output is one of the inputs, or a folder, or in none.
    """
    for output in outputs:
        if output.is_dir():
            raise OutputError(f"{output}: is a folder; name a file")
        if not output.parent.is_dir():
            raise OutputError(f"{output}: the folder {output.parent} does not exist")
        for one in inputs:
            if one is not None and output.exists() and one.exists() and output.samefile(one):
                raise OutputError(
                    f"{output}: is one of the inputs; write to another file, and rename it then"
                )


def parts_by_size(tensors: Iterable[NewTensor], most_bytes: int) -> list[int]:
    """How many tensors go to each part, if a part has at most so many bytes of them.

    A tensor that is larger gets a part of its own.
    """
    counts: list[int] = []
    size = 0
    for tensor in tensors:
        added = tensor_bytes(tensor)
        if not counts or (size + added > most_bytes and counts[-1]):
            counts.append(0)
            size = 0
        counts[-1] += 1
        size += added
    return counts or [0]


def part_paths(path: Path, count: int) -> list[Path]:
    """The names of the parts of NAME.gguf; NAME-00001-of-00005.gguf means the same."""
    split = SPLIT_NAME.fullmatch(path.name)
    stem = split["prefix"] if split else path.name.removesuffix(".gguf")
    return [path.with_name(f"{stem}-{n + 1:05d}-of-{count:05d}.gguf") for n in range(count)]


def _alignment(path: Path, metadata: Mapping[str, NewValue]) -> int:
    value = metadata.get(limits.ALIGNMENT_KEY, limits.DEFAULT_ALIGNMENT)
    data = bytes(encode_value(value))
    kind, alignment = struct.unpack("<II", data) if len(data) == 8 else (None, 0)
    power = alignment > 0 and alignment & (alignment - 1) == 0
    if kind != U32 or not power or not 8 <= alignment <= limits.MOST_ALIGNMENT:
        raise OutputError(f"{path}: {limits.ALIGNMENT_KEY}: cannot be {value!r}")
    return int(alignment)


def _lay_out(
    path: Path,
    metadata: Mapping[str, NewValue],
    tensors: Mapping[str, NewTensor],
    parts: Sequence[int] | None,
    alignment: int,
) -> list[_Part]:
    if parts is None:
        return [_Part(path, _header(path, metadata, tensors, alignment), dict(tensors))]
    if sum(parts) != len(tensors) or not parts or min(parts) < 0 or len(parts) > limits.MOST_PARTS:
        raise ValueError(f"[gguf] {len(tensors)} tensors do not make parts of {list(parts)}")
    files = []
    names = list(tensors)
    for number, (file, count) in enumerate(zip(part_paths(path, len(parts)), parts, strict=True)):
        # The types are those that llama.cpp writes, and demands when it reads.
        keys: dict[str, NewValue] = {
            "split.no": np.uint16(number),
            "split.count": np.uint16(len(parts)),
            "split.tensors.count": np.int32(len(tensors)),
        }
        if number == 0:
            keys = {**metadata, **keys}
        elif limits.ALIGNMENT_KEY in metadata:
            keys = {limits.ALIGNMENT_KEY: metadata[limits.ALIGNMENT_KEY], **keys}
        mine = {name: tensors[name] for name in names[:count]}
        del names[:count]
        files.append(_Part(file, _header(file, keys, mine, alignment), mine))
    return files


def _header(
    path: Path,
    metadata: Mapping[str, NewValue],
    tensors: Mapping[str, NewTensor],
    alignment: int,
) -> bytes:
    """Everything before the tensors, padding included."""
    parts: list[bytes | memoryview] = [
        limits.MAGIC,
        struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)),
    ]
    for key, value in metadata.items():
        parts += [encode_string(key), encode_value(value)]
    offset = 0
    for name, tensor in tensors.items():
        size = tensor_bytes(tensor)
        _check_entry(path, name, tensor)
        sizes = tuple(reversed(tensor.shape))
        parts.append(encode_string(name))
        parts.append(struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        parts.append(struct.pack("<IQ", tensor.block_type.id, offset))
        offset += size + -size % alignment
    header = b"".join(parts)
    return header + bytes(-len(header) % alignment)


def _check_entry(path: Path, name: str, tensor: NewTensor) -> None:
    if not 0 < len(name.encode()) <= limits.MOST_NAME_BYTES:
        raise OutputError(
            f"{path}: tensor {name}: names in GGUF files have 1 to {limits.MOST_NAME_BYTES} bytes"
        )
    if len(tensor.shape) > limits.MOST_DIMENSIONS:
        raise OutputError(
            f"{path}: tensor {name}: has {len(tensor.shape)} dimensions; GGUF allows "
            f"{limits.MOST_DIMENSIONS}"
        )


def _check_space(path: Path, needed: int) -> None:
    status = os.statvfs(path.parent)
    free = status.f_bavail * status.f_frsize
    if needed > free:
        raise OutputError(
            f"{path}: needs {needed / 1e9:.2f} GB, but {path.parent.absolute()} has only "
            f"{free / 1e9:.2f} GB left; make space, or write elsewhere"
        )


class _Report:
    """Counts bytes, and tells how many there are."""

    def __init__(self, progress: ProgressCallback | None, activity: str, total: int) -> None:
        self._progress = progress
        self._activity = activity
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._activity, self._done, self._total)


def _write_part(
    out: BinaryIO, part: _Part, alignment: int, opened: OpenFiles, report: _Report
) -> None:
    out.write(part.header)
    for name, tensor in part.tensors.items():
        begin = out.tell()
        tensor.write(out, opened, report.add)
        written, expected = out.tell() - begin, tensor_bytes(tensor)
        if written != expected:
            raise ValueError(f"[gguf] {name}: {written} bytes were given, not {expected}")
        out.seek(-expected % alignment, os.SEEK_CUR)
    # Padding and holes at the end become part of the file only so.
    out.truncate()
