"""A GGUF model on disk: one file, or parts named NAME-00001-of-00003.gguf, mapped into memory."""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

from nextn.errors import FileFormatError, SourceError
from nextn.files.gguf import limits
from nextn.files.gguf.header import Header, read_header

SPLIT_NAME = re.compile(r"(?P<prefix>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")


@dataclass(frozen=True, slots=True)
class Part:
    """One mapped file: its checked header and its bytes."""

    path: Path
    header: Header
    mapping: mmap.mmap


def open_parts(path: Path, *, to_copy: bool = False) -> list[Part]:
    """Map a model's file; of a split model, all parts, which lie beside the first.

    Args:
        path: the file, or the first part. All metadata of the model is in that part.
        to_copy: also allow the block formats that nextn can only copy.

    Raises:
        SourceError: a file that is missing or cannot be read.
        FileFormatError: a file that breaks the rules of the format, or parts that do not belong
            together.
        UnsupportedModelError: a block format that nextn does not know.
    """
    first = _open_part(path, to_copy)
    count = _count(first, "split.count")
    if count is None or count <= 1:
        return [first]
    name = SPLIT_NAME.fullmatch(path.name)
    if name is None or int(name["count"]) != count or count > limits.MOST_PARTS:
        raise FileFormatError(
            path,
            "split.count",
            f"says {count} parts, but the file is not named NAME-00001-of-{count:05d}.gguf",
        )
    if _count(first, "split.no") != 0 or int(name["number"]) != 1:
        first_name = f"{name['prefix']}-00001-of-{count:05d}.gguf"
        raise FileFormatError(path, "split.no", f"this is not the first part; open {first_name}")
    parts = [first]
    for number in range(2, count + 1):
        part_path = path.with_name(f"{name['prefix']}-{number:05d}-of-{count:05d}.gguf")
        if not part_path.exists():
            raise SourceError(f"{part_path}: part {number} of {count} of the model is missing")
        part = _open_part(part_path, to_copy)
        if _count(part, "split.no") != number - 1:
            raise FileFormatError(part_path, "split.no", f"does not say {number - 1}")
        parts.append(part)
    _check_tensors(parts)
    return parts


def _count(part: Part, key: str) -> int | None:
    """An integer key, not negative; None if it is missing."""
    value = part.header.metadata.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise FileFormatError(part.path, key, "is not a count")
    return value


def _open_part(path: Path, to_copy: bool) -> Part:
    try:
        # Asked before opening: to open a named pipe would wait for its writer.
        if path.exists() and not path.is_file():
            raise SourceError(f"{path}: is not a file")
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise FileFormatError(path, "magic", "the file is empty")
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise SourceError(f"{path}: cannot be read: {reason or error}") from error
    return Part(path, read_header(path, memoryview(mapping), to_copy=to_copy), mapping)


def _check_tensors(parts: list[Part]) -> None:
    seen: set[str] = set()
    for part in parts:
        for name in part.header.tensors:
            if name in seen:
                raise FileFormatError(part.path, f"tensor {name}", "occurs in an earlier part")
            seen.add(name)
    declared = _count(parts[0], "split.tensors.count")
    if declared not in (None, len(seen)):
        raise FileFormatError(
            parts[0].path,
            "split.tensors.count",
            f"says {declared}, but the parts hold {len(seen)} tensors",
        )
