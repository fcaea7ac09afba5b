"""The header of a safetensors file: a JSON object that says where each tensor lies.

A file is the length of the header (u64, little-endian), the header, and the tensors' bytes. The
rules are those of the format's own description: tensors fill the rest of the file without overlap
and without gaps, so that nothing can hide between them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nextn.errors import FileFormatError, UnsupportedModelError, shown
from nextn.files.safetensors import limits
from nextn.files.safetensors.dtypes import DTYPES, Dtype
from nextn.files.safetensors.json_files import JsonValue, parse_object

_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a tensor lies in its file. `offset` counts from byte 0."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """The tensors of a file in the order of their bytes, and what its writer noted."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def read_header(path: Path, data: memoryview) -> Header:
    """Read and check the header of a safetensors file.

    Args:
        path: named in errors.
        data: the whole file; nothing behind the header is touched.

    Raises:
        FileFormatError: which field breaks which rule.
        UnsupportedModelError: a tensor of an element type that nextn does not know.
    """
    if len(data) < _LENGTH.size:
        _fail(path, "header length", "the file ends inside it; it is truncated")
    length: int = _LENGTH.unpack_from(data)[0]
    if length > len(data) - _LENGTH.size:
        _fail(
            path,
            "header length",
            f"says {length} bytes, but {len(data) - _LENGTH.size} follow; the file is truncated, "
            "or is not a safetensors file",
        )
    if length > limits.MOST_HEADER_BYTES:
        _fail(path, "header length", f"{length} bytes; at most {limits.MOST_HEADER_BYTES} allowed")
    start = _LENGTH.size + length
    content = bytes(data[_LENGTH.size : start])
    if not content.startswith(b"{"):
        _fail(path, "header", "does not begin with '{'; this is not a safetensors file")
    listed = parse_object(path, "header", content)
    metadata = _read_metadata(path, listed.pop(_METADATA, None))
    if len(listed) > limits.MOST_TENSORS:
        _fail(path, "header", f"{len(listed)} tensors; at most {limits.MOST_TENSORS} are allowed")
    entries = [_read_entry(path, name, value, start) for name, value in listed.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.nbytes))
    _check_extents(path, entries, start, len(data))
    return Header({entry.name: entry for entry in entries}, metadata)


def _fail(path: Path, field: str, reason: str) -> NoReturn:
    raise FileFormatError(path, field, reason)


def _read_metadata(path: Path, value: JsonValue) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        _fail(path, _METADATA, "is not an object of strings")
    return {key: str(text) for key, text in value.items()}


def check_name(path: Path, name: str, field: str) -> None:
    """Check that the name of a tensor is short and printable, since errors show it.

    Raises:
        FileFormatError: it is not.
    """
    if not name:
        _fail(path, field, "the name of a tensor is empty")
    if not name.isprintable():
        _fail(path, field, f"holds characters that cannot be printed: {name[:80]!a}")
    if len(name.encode()) > limits.MOST_NAME_BYTES:
        _fail(path, field, f"has a name of more than {limits.MOST_NAME_BYTES} bytes: {shown(name)}")


def _read_entry(path: Path, name: str, value: JsonValue, start: int) -> Entry:
    check_name(path, name, "header")
    field = f"tensor {name}"
    if not isinstance(value, dict) or not value.keys() >= _ENTRY_KEYS:
        _fail(path, field, "is not an object with dtype, shape and data_offsets")
    shape = _sizes(value["shape"])
    if shape is None or len(shape) > limits.MOST_DIMENSIONS:
        _fail(path, field, f"shape is not a list of at most {limits.MOST_DIMENSIONS} sizes")
    offsets = _sizes(value["data_offsets"])
    if offsets is None or len(offsets) != 2 or offsets[0] > offsets[1]:
        _fail(path, field, "data_offsets is not a list of a begin and an end")
    dtype = _dtype(path, field, value["dtype"])
    elements = math.prod(shape)
    if elements > limits.MOST_ELEMENTS:
        _fail(path, field, "has an impossible shape")
    begin, end = offsets
    if end - begin != elements * dtype.bytes:
        _fail(
            path,
            field,
            f"data_offsets give it {end - begin} bytes, but {list(shape)} of {dtype.name} are "
            f"{elements * dtype.bytes}",
        )
    return Entry(name, dtype, shape, start + begin, end - begin)


def _sizes(value: JsonValue) -> tuple[int, ...] | None:
    """A list of integers that may be sizes or offsets."""
    if not isinstance(value, list):
        return None
    found = [
        item
        for item in value
        if isinstance(item, int)
        and not isinstance(item, bool)
        and 0 <= item <= limits.MOST_ELEMENTS
    ]
    return tuple(found) if len(found) == len(value) else None


def _dtype(path: Path, field: str, name: JsonValue) -> Dtype:
    if not isinstance(name, str):
        _fail(path, field, "dtype is not a string")
    dtype = DTYPES.get(name)
    if dtype is None:
        raise UnsupportedModelError(
            f"{path}: {field}: element type {shown(name)} is not supported; nextn reads "
            + ", ".join(DTYPES)
        )
    return dtype


def _check_extents(path: Path, entries: list[Entry], start: int, size: int) -> None:
    """Check that the tensors, in the order of their bytes, fill the file to its end."""
    end, previous = start, ""
    for entry in entries:
        field = f"tensor {entry.name}"
        if entry.offset < end:
            _fail(path, field, f"overlaps the tensor {previous}")
        if entry.offset > end:
            _fail(path, field, f"leaves a gap of {entry.offset - end} bytes before it")
        end, previous = entry.offset + entry.nbytes, entry.name
        if end > size:
            _fail(
                path,
                field,
                f"ends at byte {end}, but the file has {size}; it is truncated or corrupt",
            )
    if end != size:
        _fail(path, "data", f"{size - end} bytes follow the last tensor")
