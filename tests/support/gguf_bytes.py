"""GGUF files byte by byte, right or wrong in any place; independent of every GGUF library.

The layout is the specification's: magic, version, counts, metadata, tensor list, padding, data.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_CODES = {
    U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q",
    I64: "q", F64: "d",
}  # fmt: skip


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return u64(len(raw)) + raw


def number(kind: int, value: float) -> bytes:
    return struct.pack("<" + _CODES[kind], value)


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    """A metadata entry; `value` is what follows its type."""
    return string(key) + u32(kind) + value


def text_entry(key: str | bytes, text: str | bytes) -> bytes:
    return entry(key, STRING, string(text))


def number_entry(key: str, kind: int, value: float) -> bytes:
    return entry(key, kind, number(kind, value))


def array_entry(key: str, kind: int, values: Iterable[bytes], *, count: int | None = None) -> bytes:
    """A metadata array; `count` is the length that it claims."""
    values = list(values)
    claimed = len(values) if count is None else count
    return entry(key, ARRAY, u32(kind) + u64(claimed) + b"".join(values))


def tensor_entry(
    name: str | bytes = "a.weight",
    sizes: Iterable[int] = (8,),
    type_id: int = 0,
    offset: int = 0,
    *,
    dimensions: int | None = None,
) -> bytes:
    """An entry of the tensor list; `sizes` has the contraction dimension first, as in files."""
    sizes = list(sizes)
    claimed = len(sizes) if dimensions is None else dimensions
    return string(name) + u32(claimed) + b"".join(map(u64, sizes)) + u32(type_id) + u64(offset)


ARCHITECTURE = text_entry("general.architecture", "llama")


@dataclass
class GgufBytes:
    """The parts of a file; by default a right one with one tensor of eight float32."""

    magic: bytes = b"GGUF"
    version: int = 3
    metadata: list[bytes] = field(default_factory=lambda: [ARCHITECTURE])
    tensors: list[bytes] = field(default_factory=lambda: [tensor_entry()])
    metadata_count: int | None = None
    tensor_count: int | None = None
    alignment: int = 32
    data: bytes = bytes(32)

    def build(self) -> bytes:
        metadata_count = len(self.metadata) if self.metadata_count is None else self.metadata_count
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        header = self.magic + u32(self.version) + u64(tensor_count) + u64(metadata_count)
        header += b"".join(self.metadata) + b"".join(self.tensors)
        return header + bytes(-len(header) % self.alignment) + self.data
