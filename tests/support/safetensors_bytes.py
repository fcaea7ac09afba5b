"""Safetensors files byte by byte, right or wrong in any place; independent of every library.

write_safetensors(path, {"a.weight": np.zeros((2, 3), np.float32)})
write_safetensors(path, {"a.weight": ("F8_E4M3", codes)})       # types that NumPy lacks
path.write_bytes(file_bytes({"a": entry("F32", [2], 0, 8)}, bytes(8)))
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Given = Array | tuple[str, Array]

_NAMES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16",
    "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def file_bytes(header: Mapping[str, Any] | bytes, data: bytes, length: int | None = None) -> bytes:
    """A file; `length` is what it claims the header has."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def to_bfloat16(values: Array) -> Array:
    """The upper halves of float32 values, rounded to the nearest, halves to even: uint16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)).astype("<u2")


def bfloat16(values: Array) -> tuple[str, Array]:
    """A BF16 tensor."""
    return "BF16", to_bfloat16(values)


def write_safetensors(path: Path, tensors: Mapping[str, Given]) -> None:
    """Write a file. A tensor whose type NumPy lacks is (name of the type, array of its bytes)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, given in tensors.items():
        dtype, array = given if isinstance(given, tuple) else (_NAMES[given.dtype.name], given)
        raw = array.tobytes()
        header[name] = entry(dtype, list(array.shape), len(data), len(data) + len(raw))
        data += raw
    path.write_bytes(file_bytes(header, data))


def write_folder(
    folder: Path,
    tensors: Mapping[str, Given],
    config: Mapping[str, Any] | None = None,
    *,
    shards: int = 1,
    **files: Any,
) -> Path:
    """Write a checkpoint: tensors in shards, config.json, and further JSON files by name."""
    folder.mkdir(exist_ok=True)
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
    else:
        weight_map = {}
        names = list(tensors)
        for number in range(shards):
            shard = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
            mine = names[number::shards]
            write_safetensors(folder / shard, {name: tensors[name] for name in mine})
            weight_map |= dict.fromkeys(mine, shard)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        files = {"config": config, **files}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder
