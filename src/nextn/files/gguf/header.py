"""The header of a GGUF file: metadata and the list of tensors.

The layout is that of the GGUF specification, versions 2 and 3. Numbers are checked against the
bytes that are there before anything is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from nextn.errors import UnsupportedModelError
from nextn.files.block_formats import BLOCK_TYPES, COPIED_TYPES, I32, BlockType
from nextn.files.gguf import limits
from nextn.files.gguf.cursor import Cursor
from nextn.files.gguf.limits import ALIGNMENT_KEY
from nextn.files.gguf.values import U32, EncodedValue, MetadataValue, read_value

# Block formats that files must not use any more, and what to use instead.
_REMOVED_FORMATS = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """Where a tensor lies in its file. `shape` has the rows first; `offset` counts from byte 0."""

    name: str
    shape: tuple[int, ...]
    block_type: BlockType
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """Metadata and tensors of one file, in the file's order; `encoded` are the same metadata."""

    version: int
    metadata: dict[str, MetadataValue]
    encoded: dict[str, EncodedValue]
    tensors: dict[str, TensorEntry]


def read_header(
    path: Path, data: memoryview, *, to_copy: bool = False, size: int | None = None
) -> Header:
    """Read and check the header of a GGUF file.

    Args:
        path: named in errors.
        data: the whole file, or its beginning; nothing behind the header is touched.
        to_copy: also allow the block formats that nextn can only copy.
        size: bytes of the whole file, if `data` is its beginning.

    Raises:
        FileFormatError: which field breaks which rule.
        UnsupportedModelError: a tensor in a block format that nextn does not know.
        HeaderContinuesError: `data` is the beginning of a file, and the header is longer.
    """
    cursor = Cursor(path, data, size)
    version = _read_version(cursor)
    tensor_count = cursor.u64("tensor count")
    metadata_count = cursor.u64("metadata count")
    _check_count(
        cursor,
        "metadata count",
        metadata_count,
        limits.MOST_METADATA_ENTRIES,
        limits.SMALLEST_METADATA_ENTRY,
    )
    metadata, encoded = _read_metadata(cursor, metadata_count)
    _check_count(
        cursor, "tensor count", tensor_count, limits.MOST_TENSORS, limits.SMALLEST_TENSOR_ENTRY
    )
    alignment = _alignment(cursor, metadata)
    entries: dict[str, TensorEntry] = {}
    for index in range(tensor_count):
        entry = _read_tensor(cursor, index, alignment, to_copy)
        if entry.name in entries:
            cursor.fail(f"tensor {entry.name}", "occurs twice")
        entries[entry.name] = entry
    data_start = -(-cursor.position // alignment) * alignment
    _check_extents(cursor, entries, cursor.size - data_start)
    tensors = {
        name: replace(entry, offset=data_start + entry.offset) for name, entry in entries.items()
    }
    return Header(version, metadata, encoded, tensors)


def _read_version(cursor: Cursor) -> int:
    magic = bytes(cursor.take(min(len(limits.MAGIC), cursor.left), "magic"))
    if magic != limits.MAGIC:
        cursor.fail("magic", f"expected {limits.MAGIC!r}, got {magic!r}; this is not a GGUF file")
    version = cursor.u32("version")
    if version and version & 0xFFFF == 0:
        cursor.fail("version", "the file is big-endian, which nextn does not read; convert it")
    if version not in limits.VERSIONS:
        known = " and ".join(map(str, limits.VERSIONS))
        cursor.fail("version", f"{version} is not supported; nextn reads versions {known}")
    return version


def _check_count(cursor: Cursor, field: str, count: int, most: int, smallest_entry: int) -> None:
    # A division, not a product: the count may be anything.
    if count > cursor.left // smallest_entry:
        cursor.fail(field, f"{count} entries do not fit in the file; it is truncated or corrupt")
    if count > most:
        cursor.fail(field, f"{count} entries; at most {most} are allowed")


def _read_metadata(
    cursor: Cursor, count: int
) -> tuple[dict[str, MetadataValue], dict[str, EncodedValue]]:
    metadata: dict[str, MetadataValue] = {}
    encoded: dict[str, EncodedValue] = {}
    for index in range(count):
        key = cursor.name(f"metadata key {index}", most=limits.MOST_KEY_BYTES)
        if key in metadata:
            cursor.fail(key, "occurs twice in the metadata")
        start = cursor.position
        kind, metadata[key] = read_value(cursor, key)
        encoded[key] = EncodedValue(cursor.data[start : cursor.position])
        if cursor.position > limits.MOST_METADATA_BYTES:
            cursor.fail(
                key, f"the metadata is larger than {limits.MOST_METADATA_BYTES >> 20} MiB; corrupt"
            )
        if key == ALIGNMENT_KEY and kind != U32:
            cursor.fail(key, "is not of the type u32")
    return metadata, encoded


def _alignment(cursor: Cursor, metadata: dict[str, MetadataValue]) -> int:
    value = metadata.get(ALIGNMENT_KEY, limits.DEFAULT_ALIGNMENT)
    is_power_of_two = isinstance(value, int) and value > 0 and value & (value - 1) == 0
    if (
        not isinstance(value, int)
        or not is_power_of_two
        or not limits.LEAST_ALIGNMENT <= value <= limits.MOST_ALIGNMENT
    ):
        cursor.fail(
            ALIGNMENT_KEY,
            f"{value} is not a power of two from {limits.LEAST_ALIGNMENT} to "
            f"{limits.MOST_ALIGNMENT}",
        )
    return value


def _read_tensor(cursor: Cursor, index: int, alignment: int, to_copy: bool) -> TensorEntry:
    """Read one entry; its offset still counts from the start of the data section."""
    name = cursor.name(f"tensor name {index}", most=limits.MOST_NAME_BYTES)
    field = f"tensor {name}"
    dimensions = cursor.u32(field)
    if not 1 <= dimensions <= limits.MOST_DIMENSIONS:
        cursor.fail(
            field, f"has {dimensions} dimensions; 1 to {limits.MOST_DIMENSIONS} are allowed"
        )
    sizes = [cursor.u64(field) for _ in range(dimensions)]
    if min(sizes) < 1 or math.prod(sizes) > limits.MOST_ELEMENTS:
        cursor.fail(field, f"has an impossible shape: {sizes}")
    block_type = _block_type(cursor, field, cursor.u32(field), to_copy)
    if sizes[0] % block_type.elements:
        cursor.fail(
            field,
            f"rows of {sizes[0]} elements are not whole {block_type.name} blocks of "
            f"{block_type.elements}",
        )
    offset = cursor.u64(field)
    if offset % alignment:
        cursor.fail(field, f"starts at {offset}, which is not a multiple of {alignment}")
    nbytes = math.prod(sizes) // block_type.elements * block_type.bytes
    return TensorEntry(name, tuple(reversed(sizes)), block_type, offset, nbytes)


def _block_type(cursor: Cursor, field: str, type_id: int, to_copy: bool) -> BlockType:
    if type_id in _REMOVED_FORMATS:
        cursor.fail(
            field,
            f"block format {type_id} ({_REMOVED_FORMATS[type_id]}) was removed from GGUF; "
            "convert the model again",
        )
    block_type = I32 if type_id == I32.id else BLOCK_TYPES.get(type_id)
    if block_type is None and to_copy:
        block_type = COPIED_TYPES.get(type_id)
    if block_type is None:
        known = ", ".join(known.name for known in BLOCK_TYPES.values())
        raise UnsupportedModelError(
            f"{cursor.path}: {field}: block format {type_id} is not supported; nextn reads {known}"
        )
    return block_type


def _check_extents(cursor: Cursor, entries: dict[str, TensorEntry], available: int) -> None:
    """Check that every tensor lies within the data section and that none overlap."""
    end, previous = 0, ""
    for entry in sorted(entries.values(), key=lambda entry: entry.offset):
        field = f"tensor {entry.name}"
        if entry.offset < end:
            cursor.fail(field, f"overlaps the tensor {previous}")
        end, previous = entry.offset + entry.nbytes, entry.name
        if end > available:
            cursor.fail(
                field,
                f"ends at byte {end} of the data, but the file has {max(0, available)}; it is "
                "truncated or corrupt",
            )
