"""Copies of small models with something changed about them, written by the `gguf` package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize, quantize

Tensors = dict[str, np.ndarray]
Plant = Callable[[Tensors], None]


def replant(
    source: Path,
    target: Path,
    plant: Plant = lambda _: None,
    *,
    types: dict[str, str] | None = None,
    raw: dict[str, tuple[np.ndarray, GGMLQuantizationType]] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Path:
    """Copy a model.

    Args:
        source: a GGUF file.
        target: the copy.
        plant: may change, remove and add tensors: float32, or int32 for lists; rows first.
        types: block formats by name of a tensor, where they are not those of the source.
        raw: tensors to add as they are.
        metadata: keys to replace or add; None as a value removes one.
    """
    reader = GGUFReader(source)
    changes = dict(metadata or {})
    architecture = changes.pop(
        "general.architecture", reader.fields["general.architecture"].contents()
    )
    writer = GGUFWriter(target, architecture)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in changes:
            continue
        sub_type = field.types[1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type)
    for key, value in changes.items():
        if value is not None:
            writer.add_key_value(key, value, GGUFValueType.get_type(value))
    tensors: Tensors = {}
    kinds: dict[str, GGMLQuantizationType] = {}
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for tensor in reader.tensors:
        kinds[tensor.name] = tensor.tensor_type
        data = np.array(tensor.data)
        if tensor.tensor_type != GGMLQuantizationType.I32:
            data = dequantize(data, tensor.tensor_type)
        tensors[tensor.name] = data
        found[tensor.name] = data.copy(), tensor.data
    plant(tensors)
    for name, values in tensors.items():
        kind = kinds.get(name, GGMLQuantizationType.F32)
        if types is not None and name in types:
            kind = GGMLQuantizationType[types[name]]
        before, encoded = found.get(name, (None, None))
        if values.dtype == np.int32:
            writer.add_tensor(name, values)
        elif encoded is not None and kind == kinds[name] and np.array_equal(values, before):
            # The package cannot quantise to all formats.
            writer.add_tensor(name, encoded, raw_dtype=kind)
        else:
            with np.errstate(all="ignore"):
                writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
    for name, (data, kind) in (raw or {}).items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
