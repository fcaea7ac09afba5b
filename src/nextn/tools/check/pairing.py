"""Whether a head and a trunk that come in two files belong together, by what both say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from nextn.errors import FileFormatError, shown
from nextn.files import Checkpoint
from nextn.files.gguf import LazyStrings
from nextn.models.head_tensors import is_head_only, trunk_blocks
from nextn.models.nextn_head import (
    TRUNK_KEY,
    VOCAB_HASH_KEY,
    hash_of_tokens,
)
from nextn.tools.check.findings import Finding, doubt, fault, note
from nextn.tools.vocabularies import same_vocabulary, vocabulary_difference

_TOKENS = "tokenizer.ggml.tokens"
# Which token ends a text may change in a fine-tune; how texts are cut into tokens may not.
_TOKENIZER_KEYS = ("model", "pre", "merges")
# Keys whose value is another one where a head was trained for another trunk of the same family.
_SHAPE_KEYS = (
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
)
_NUMERIC_KEYS = ("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.dimension_count")


def check_pairing(trunk: Checkpoint, head: Checkpoint) -> Iterator[Finding]:
    """Compare two files; nothing is found where both are the same one."""
    if head is trunk:
        return
    if head.architecture != trunk.architecture:
        yield fault(
            "architecture",
            "general.architecture",
            f"the head is for {shown(head.architecture)}, the trunk is {shown(trunk.architecture)}",
        )
        return
    yield from _check_keys(trunk, head)
    yield from _check_vocabulary(trunk, head)
    yield from _check_tokenizer(trunk, head)
    named, name = _text(head, TRUNK_KEY), _text(trunk, "general.name")
    if named is not None and named != name:
        yield doubt(
            "trunk-name",
            TRUNK_KEY,
            f"the head was made for {shown(named)}, and this trunk is called {shown(name or '')}: "
            "fine for a fine-tune of it, useless for another model",
        )


def _check_keys(trunk: Checkpoint, head: Checkpoint) -> Iterator[Finding]:
    for key in (*_SHAPE_KEYS, *_NUMERIC_KEYS):
        full = f"{trunk.architecture}.{key}"
        ours, theirs = trunk.metadata.get(full), head.metadata.get(full)
        if not isinstance(ours, int | float) or not isinstance(theirs, int | float):
            continue
        if key in _NUMERIC_KEYS:
            if not np.isclose(ours, theirs, rtol=1e-5):
                yield doubt("settings", full, f"is {theirs} for the head, {ours} for the trunk")
        elif ours != theirs:
            yield fault(
                "other-model",
                full,
                f"is {theirs} for the head, but {ours} for the trunk: it is of another model",
            )
    if not is_head_only(head):
        return
    try:
        blocks, own = trunk_blocks(head), trunk_blocks(trunk)
    except FileFormatError as error:
        yield fault("metadata", error.field, error.reason)
        return
    if blocks != own:
        yield fault(
            "other-model",
            f"{head.architecture}.block_count",
            f"the head was made for a trunk of {blocks} blocks, but this one has {own}",
        )


def _check_vocabulary(trunk: Checkpoint, head: Checkpoint) -> Iterator[Finding]:
    same = same_vocabulary(trunk, head)
    if same is None:
        yield note(
            "vocabulary-unknown",
            VOCAB_HASH_KEY if _TOKENS in trunk.metadata else _TOKENS,
            "the files do not say whether both have the same vocabulary",
        )
    elif not same:
        different = vocabulary_difference(trunk, head)
        yield fault(
            "vocabulary",
            VOCAB_HASH_KEY if _text(head, VOCAB_HASH_KEY) else _TOKENS,
            "the head was made for another vocabulary"
            f"{different and f' ({different})'}; its tokens mean something else",
        )


def _check_tokenizer(trunk: Checkpoint, head: Checkpoint) -> Iterator[Finding]:
    """Where the head's file has a tokenizer, it must be the trunk's."""
    for key in _TOKENIZER_KEYS:
        full = f"tokenizer.ggml.{key}"
        ours, theirs = _digest(trunk, full), _digest(head, full)
        if ours is not None and theirs is not None and ours != theirs:
            yield fault(
                "tokenizer",
                full,
                "is not that of the trunk: the head was trained on texts cut into other tokens",
            )


def _digest(file: Checkpoint, key: str) -> str | None:
    """Something that is equal for equal values."""
    value = file.metadata.get(key)
    match value:
        case None:
            return None
        case LazyStrings():
            return hash_of_tokens(value.decode())
        case np.ndarray():
            return hashlib.sha256(np.asarray(value, np.float64).tobytes()).hexdigest()
        case _:
            return repr(value)


def _text(file: Checkpoint, key: str) -> str | None:
    value = file.metadata.get(key)
    return value if isinstance(value, str) else None
