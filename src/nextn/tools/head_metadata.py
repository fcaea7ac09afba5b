"""The metadata of files that get, lose, or are a head. What is not about the head is not touched.

Values that stay are copied byte for byte; counts keep the width that they had. Keys with one value
per block, such as `attention.head_count_kv` of some models, have values for the blocks of the head,
too: they are shortened and lengthened with the blocks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nextn.errors import UnsupportedModelError
from nextn.files import Checkpoint
from nextn.files.gguf.encoding import NewValue
from nextn.files.gguf.values import NUMBERS
from nextn.models.head_tensors import HEAD_LAYERS_KEY
from nextn.models.nextn_head import TRUNK_KEY, VOCAB_HASH_KEY, vocabulary_hash
from nextn.tools.head_parts import BLOCKS_KEY, HeadParts

_HEAD_PREFIX: Final = "nextn.head."
# What the owner of a model says about it belongs to its head, too.
_KEPT_GENERAL: Final = (
    "general.alignment",
    "general.quantization_version",
    "general.author",
    "general.organization",
    "general.license",
    "general.license.name",
    "general.license.link",
)
_KEPT_TOKENIZER: Final = ("tokenizer.ggml.model", "tokenizer.ggml.pre")
# Lists that are not one value per block, whatever their length is.
_NOT_PER_BLOCK: Final = ("rope.dimension_sections",)


def head_metadata(source: Checkpoint, head: HeadParts, first: int) -> dict[str, NewValue]:
    """The metadata of a file that holds only the head of `source`.

    Args:
        source: the file that holds it.
        head: where it is there.
        first: the number of its first block in the new file.
    """
    encoded = source.encoded_metadata
    name = source.string("general.name", "")
    trunk_name = source.string(TRUNK_KEY, name)
    keys: dict[str, NewValue] = {
        "general.architecture": source.architecture,
        "general.type": "model",
        "general.name": f"{trunk_name} nextn head",
    }
    keys |= {key: encoded[key] for key in _KEPT_GENERAL if key in encoded}
    # Sorted, so that the file is the same whatever order the quantiser of the trunk wrote.
    prefixes = (f"{source.architecture}.", _HEAD_PREFIX)
    named = {HEAD_LAYERS_KEY.format(arch=source.architecture), *encoded}
    keys |= {key: encoded.get(key, 0) for key in sorted(named) if key.startswith(prefixes)}
    keys |= {key: encoded[key] for key in _KEPT_TOKENIZER if key in encoded}
    vocabulary = vocabulary_hash(source) or source.string(VOCAB_HASH_KEY, "")
    for key, value in ((TRUNK_KEY, trunk_name), (VOCAB_HASH_KEY, vocabulary)):
        keys.pop(key, None)
        if value:
            keys[key] = value
    _set_counts(keys, source, first, head.blocks)
    if first != head.first:
        # Values for the blocks of another trunk: those of the head stay, and stand last.
        for key in per_block_keys(source, head.first + head.blocks):
            values = np.asarray(source.metadata[key])
            before = (
                np.resize(values[: head.first], first) if head.first else values[:1].repeat(first)
            )
            keys[key] = np.concatenate((before, values[-head.blocks :]))
    return keys


def attached_metadata(
    trunk: Checkpoint, blocks: int, source: Checkpoint, head: HeadParts
) -> dict[str, NewValue]:
    """The metadata of a trunk after it got a head.

    Args:
        trunk: the model.
        blocks: how many it has without a head.
        source: the file that holds the head.
        head: where it is there.

    Raises:
        UnsupportedModelError: the trunk has different values for its blocks, and the head's file
            does not say that of the head.
    """
    keys: dict[str, NewValue] = {
        key: value
        for key, value in trunk.encoded_metadata.items()
        if not key.startswith(_HEAD_PREFIX)
    }
    for key in (*per_block_keys(trunk, blocks), *per_block_keys(trunk, blocks + head.blocks)):
        values = np.asarray(trunk.metadata[key])[:blocks]
        added = head_values(source, head, key)
        if added is None:
            if (values != values[0]).any():
                raise UnsupportedModelError(
                    f"{source.path}: {key}: is missing; {trunk.path} has different values for its "
                    "blocks, so that nextn cannot know that of the head"
                )
            added = values[:1].repeat(head.blocks)
        keys[key] = np.concatenate((values, added.astype(values.dtype)))
    general = "general.quantization_version"
    if general in source.encoded_metadata:
        keys.setdefault(general, source.encoded_metadata[general])
    for key, value in source.encoded_metadata.items():
        # The file has the vocabulary itself, and mostly is the trunk that the head was made for.
        own = key == TRUNK_KEY and source.string(key) == trunk.string("general.name", "")
        if key.startswith(_HEAD_PREFIX) and key != VOCAB_HASH_KEY and not own:
            keys[key] = value
    _set_counts(keys, trunk, blocks, head.blocks)
    return keys


def detached_metadata(source: Checkpoint, head: HeadParts) -> dict[str, NewValue]:
    """The metadata of a model without its head, which then declares 0 blocks of one."""
    keys: dict[str, NewValue] = {
        key: value
        for key, value in source.encoded_metadata.items()
        if not key.startswith(_HEAD_PREFIX)
    }
    for key in per_block_keys(source, head.first + head.blocks):
        keys[key] = np.asarray(source.metadata[key])[: head.first]
    _set_counts(keys, source, head.first, 0)
    return keys


def per_block_keys(checkpoint: Checkpoint, blocks: int) -> list[str]:
    """The keys with one value for each of so many blocks."""
    prefix = f"{checkpoint.architecture}."
    return [
        key
        for key, value in checkpoint.metadata.items()
        if key.startswith(prefix)
        and isinstance(value, np.ndarray)
        and len(value) == blocks
        and key.removeprefix(prefix) not in _NOT_PER_BLOCK
    ]


def head_values(source: Checkpoint, head: HeadParts, key: str) -> NDArray[np.generic] | None:
    """What a numeric key says about each block of a head: [blocks]; None if it says nothing."""
    value = source.metadata.get(key)
    if isinstance(value, np.ndarray):
        return value[-head.blocks :] if len(value) == head.first + head.blocks else None
    if isinstance(value, int | float):
        return np.full(head.blocks, value)
    return None


def _set_counts(keys: dict[str, NewValue], source: Checkpoint, first: int, blocks: int) -> None:
    """Write how many blocks there are, and how many of them are the head's, in their old places."""
    count = BLOCKS_KEY.format(arch=source.architecture)
    layers = HEAD_LAYERS_KEY.format(arch=source.architecture)
    keys[count] = _like(source, count, first + blocks)
    if layers in keys:
        keys[layers] = _like(source, layers, blocks)
        return
    ordered = list(keys.items())
    keys.clear()
    for key, value in ordered:
        keys[key] = value
        if key == count:
            keys[layers] = np.uint32(blocks)


def _like(source: Checkpoint, key: str, value: int) -> NewValue:
    """A count of the type that it has in a file, if it has one there."""
    encoded = source.encoded_metadata.get(key)
    dtype = NUMBERS.get(encoded.kind) if encoded is not None else None
    if dtype is None or dtype.kind not in "iu" or value > np.iinfo(dtype.str).max:
        return np.uint32(value)
    number: np.generic = dtype.type(value)
    return number
