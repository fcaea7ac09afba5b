"""Writes a trained head as a GGUF file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextn.files import I32, Checkpoint
from nextn.files.block_encoding import F32, Q8_0, encode
from nextn.files.gguf.writer import NewValue, TensorBytes, write_gguf
from nextn.models.head_tensors import HEAD_LAYERS_KEY, trunk_blocks
from nextn.models.nextn_head import (
    HIDDEN_KEY,
    OUTPUT_KEY,
    OUTPUT_OF_TRUNK,
    TRUNK_KEY,
    VOCAB_HASH_KEY,
    draft_vocabulary_name,
    own_output_name,
    vocabulary_hash,
)

_NAME = "general.name"


def export_head(
    path: Path,
    trunk: Checkpoint,
    values: Mapping[str, NDArray[np.float32]],
    token_ids: NDArray[np.int32],
    own_output: TensorBytes | None = None,
) -> None:
    """Write a head-only file: matrices in Q8_0, vectors in float32.

    Args:
        path: the file; an existing one is replaced.
        trunk: the model that the head is for.
        values: float32, by the name of the tensor.
        token_ids: the draft vocabulary, ascending.
        own_output: rows of the trunk's output matrix for these tokens, in a smaller format; None
            if the head is to use those of the trunk.

    Raises:
        ValueError: a value that is not finite.
        OSError: the file cannot be written; nothing is left of it.
    """
    blocks = trunk_blocks(trunk)
    name = trunk.string(_NAME, "")
    metadata: dict[str, NewValue] = {
        "general.architecture": trunk.architecture,
        "general.type": "model",
        _NAME: f"{name} nextn head",
    }
    # What the block's shape depends on is the trunk's; so the file says what it is made for.
    for key, value in trunk.metadata.items():
        if key.startswith(f"{trunk.architecture}.") and isinstance(value, str | int | float | bool):
            metadata[key] = trunk.encoded_metadata.get(key, value)
    metadata[f"{trunk.architecture}.block_count"] = blocks + 1
    metadata[HEAD_LAYERS_KEY.format(arch=trunk.architecture)] = 1
    metadata[HIDDEN_KEY] = "post"
    metadata[TRUNK_KEY] = name
    vocabulary = vocabulary_hash(trunk)
    if vocabulary is not None:
        metadata[VOCAB_HASH_KEY] = vocabulary
    tensors = {tensor: _encoded(tensor, value) for tensor, value in values.items()}
    ids = np.ascontiguousarray(token_ids, "<i4")
    tensors[draft_vocabulary_name(blocks)] = TensorBytes(ids.shape, I32, ids.view(np.uint8))
    if own_output is not None:
        tensors[own_output_name(blocks)] = own_output
        metadata[OUTPUT_KEY] = OUTPUT_OF_TRUNK
    write_gguf(path, metadata, tensors)


def _encoded(name: str, values: NDArray[np.float32]) -> TensorBytes:
    if not np.isfinite(values).all():
        raise ValueError(f"[export] {name} holds values that are not finite")
    if values.ndim > 1 and values.shape[-1] % Q8_0.elements == 0:
        return TensorBytes(values.shape, Q8_0, encode(Q8_0, values))
    return TensorBytes(values.shape, F32, encode(F32, values))
