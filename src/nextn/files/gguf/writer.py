"""Writes small GGUF files, version 3: heads, which fit into memory."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nextn.files.block_formats import BlockType
from nextn.files.gguf.limits import DEFAULT_ALIGNMENT, MAGIC
from nextn.files.replacing import replacing

_VERSION = 3
_U32, _F32, _BOOL, _STRING, _U64 = 4, 6, 7, 8, 10
_MOST_U32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class TensorBytes:
    """A tensor as it will stand in the file.

    Attributes:
        shape: rows first.
        block_type: format of the bytes.
        data: uint8 [...], all bytes in order.
    """

    shape: tuple[int, ...]
    block_type: BlockType
    data: NDArray[np.uint8]


def write_gguf(
    path: Path,
    metadata: Mapping[str, str | int | float | bool],
    tensors: Mapping[str, TensorBytes],
) -> None:
    """Write a file, first under another name; an existing one is replaced.

    Args:
        path: the file.
        metadata: integers become u32, or u64 if they are larger; floats become f32.
        tensors: by name, in the order of the file.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    with replacing(path) as file:
        file.write(_header(metadata, tensors))
        for tensor in tensors.values():
            _pad(file)
            file.write(np.ascontiguousarray(tensor.data).data)


def _header(
    metadata: Mapping[str, str | int | float | bool], tensors: Mapping[str, TensorBytes]
) -> bytes:
    parts = [MAGIC, struct.pack("<IQQ", _VERSION, len(tensors), len(metadata))]
    parts += [_string(key) + _value(value) for key, value in metadata.items()]
    offset = 0
    for name, tensor in tensors.items():
        sizes = tuple(reversed(tensor.shape))
        parts.append(_string(name))
        parts.append(struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        parts.append(struct.pack("<IQ", tensor.block_type.id, offset))
        offset += _aligned(tensor.data.nbytes)
    return b"".join(parts)


def _value(value: str | int | float | bool) -> bytes:
    match value:
        case bool():
            return struct.pack("<IB", _BOOL, value)
        case str():
            return struct.pack("<I", _STRING) + _string(value)
        case int() if value <= _MOST_U32:
            return struct.pack("<II", _U32, value)
        case int():
            return struct.pack("<IQ", _U64, value)
        case float():
            return struct.pack("<If", _F32, value)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _aligned(size: int) -> int:
    return -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT


def _pad(file: BinaryIO) -> None:
    position = file.tell()
    file.write(bytes(_aligned(position) - position))
