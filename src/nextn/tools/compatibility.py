"""Whether a head and a trunk belong together, by what their files say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from nextn.errors import UnsupportedModelError, shown
from nextn.files import I32, Checkpoint, Tensor
from nextn.files.gguf import LazyStrings
from nextn.files.typed_values import described
from nextn.models.head_tensors import block_of, renumbered
from nextn.models.nextn_head import TRUNK_KEY
from nextn.tools.head_metadata import head_values
from nextn.tools.head_parts import HeadParts
from nextn.tools.vocabularies import same_vocabulary, vocabulary_difference

# A head computes with these; it was trained for one value.
_MUST_EQUAL: Final = (
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "expert_count",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "feed_forward_length",
    "rope.dimension_count",
)
_COUNTS: Final = ("block_count", "nextn_predict_layers", "vocab_size")
_ATTENTION: Final = ("attn_q", "attn_k", "attn_v", "attn_output", "attn_qkv")


@dataclass(frozen=True, slots=True)
class Compatibility:
    """The result of the comparison.

    Attributes:
        impossible: why the head cannot work with this trunk.
        doubts: why it was hardly made for this trunk.
        notes: what is different, as it may be in a fine-tuned model.
    """

    impossible: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def check(self, trunk: Checkpoint, head: Checkpoint, *, force: bool) -> list[str]:
        """The notes, and the doubts, too, if they are to be passed over.

        Raises:
            UnsupportedModelError: it is impossible, or there are doubts and no `force`.
        """
        reasons = self.impossible or ([] if force else self.doubts)
        if not reasons:
            return [*self.doubts, *self.notes]
        advice = "take a head that was made for this model"
        if not self.impossible:
            advice += ", or use force (--force) if you know that it fits"
        raise UnsupportedModelError(
            f"{head.path}: does not fit {trunk.path}: {'; '.join(reasons)}; {advice}"
        )


def compare_head(
    trunk: Checkpoint, blocks: int, source: Checkpoint, head: HeadParts
) -> Compatibility:
    """Compare a trunk with a head that is to be attached to it.

    Args:
        trunk: the model.
        blocks: how many blocks it has.
        source: the file that holds the head.
        head: where it is there.

    Raises:
        FileFormatError: a key that has no possible value.
    """
    found = Compatibility()
    if source.architecture != trunk.architecture:
        found.impossible.append(
            f"general.architecture is {shown(source.architecture)} for the head and "
            f"{shown(trunk.architecture)} for the model"
        )
        return found
    _compare_hidden_size(found, trunk, source, head)
    _compare_keys(found, trunk, source, head)
    _compare_shapes(found, trunk, source, head)
    _compare_vocabulary(found, trunk, source, head)
    # Files that hold a head alone may count their blocks from 0.
    if head.first not in (0, blocks):
        found.doubts.append(
            f"the head was made for a trunk of {head.first} blocks, but this one has {blocks}"
        )
    name, made_for = trunk.string("general.name", ""), source.string(TRUNK_KEY, "")
    if made_for and made_for != name:
        found.notes.append(f"the head was made for {shown(made_for)}, this model is {shown(name)}")
    return found


def _compare_hidden_size(
    found: Compatibility, trunk: Checkpoint, source: Checkpoint, head: HeadParts
) -> None:
    hidden = trunk.integer("{arch}.embedding_length", minimum=1)
    theirs = source.integer("{arch}.embedding_length", hidden, minimum=1)
    if theirs != hidden:
        found.impossible.append(f"the hidden size of the head is {theirs}, that of it is {hidden}")
        return
    for name in head.names:
        shape = source.tensors[name].shape
        expected = {"eh_proj": (hidden, 2 * hidden), "enorm": (hidden,), "hnorm": (hidden,)}
        part = name.removesuffix(".weight").rpartition("nextn.")[2]
        if expected.get(part, shape) != shape and name.endswith(".weight"):
            found.impossible.append(
                f"{name} has the shape {_shape(shape)}, not {_shape(expected[part])}"
            )


def _compare_keys(
    found: Compatibility, trunk: Checkpoint, source: Checkpoint, head: HeadParts
) -> None:
    prefix = f"{trunk.architecture}."
    for key, ours in trunk.metadata.items():
        name = key.removeprefix(prefix)
        # Of keys with one value per block, those of the head are attached with it.
        if not key.startswith(prefix) or name in _COUNTS or not isinstance(ours, int | float | str):
            continue
        if isinstance(ours, str):
            theirs = source.metadata.get(key)
            same = theirs is None or (isinstance(theirs, str) and theirs == ours)
        else:
            values = head_values(source, head, key)
            same = values is None or bool((values == np.asarray(ours, values.dtype)).all())
            theirs = None if values is None else values[0]
        if same:
            continue
        text = f"{key} is {_value(theirs)} for the head and {_value(ours)} for the model"
        if name in _MUST_EQUAL:
            found.doubts.append(text)
        elif name != "embedding_length":
            found.notes.append(f"{text}, which counts")


def _compare_shapes(
    found: Compatibility, trunk: Checkpoint, source: Checkpoint, head: HeadParts
) -> None:
    """The attention of a head has the shape of that of some block of its trunk."""
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for name, tensor in trunk.tensors.items():
        if (block := block_of(name)) is not None:
            shapes.setdefault(renumbered(name, -block), set()).add(tensor.shape)
    for name in head.names:
        block, shape = block_of(name) or 0, source.tensors[name].shape
        ours = shapes.get(renumbered(name, -block), {shape})
        if name.split(".")[-2] in _ATTENTION and shape not in ours:
            expected = " or ".join(sorted(map(_shape, ours)))
            found.doubts.append(f"{name} has the shape {_shape(shape)}, in the model {expected}")


def _compare_vocabulary(
    found: Compatibility, trunk: Checkpoint, source: Checkpoint, head: HeadParts
) -> None:
    for key in ("tokenizer.ggml.model", "tokenizer.ggml.pre"):
        ours, theirs = trunk.metadata.get(key), source.metadata.get(key)
        if isinstance(ours, str) and isinstance(theirs, str) and ours != theirs:
            found.doubts.append(
                f"{key} is {shown(theirs)} for the head and {shown(ours)} for the model"
            )
    same = same_vocabulary(trunk, source)
    if same is None:
        found.notes.append("whether head and model have one vocabulary is not known")
    elif not same:
        different = vocabulary_difference(trunk, source)
        found.doubts.append(f"the vocabulary is another one{different and f' ({different})'}")
    table = trunk.tensors.get("token_embd.weight")
    if table is not None:
        _compare_rows(found, table.shape[0], source, head)


def _compare_rows(found: Compatibility, tokens: int, source: Checkpoint, head: HeadParts) -> None:
    """The head's own matrices have a row for each token that there is, or that it drafts."""
    rows = {tokens}
    for name in head.names:
        if name.endswith(".nextn.draft_vocab"):
            ids = _token_ids(source.tensors[name])
            rows.add(len(ids))
            if ids.size and not 0 <= ids.min() <= ids.max() < tokens:
                found.impossible.append(
                    f"{name} lists tokens up to {ids.max()}, but the model has {tokens}"
                )
    for name in head.names:
        shape = source.tensors[name].shape
        own_table = name.endswith(".nextn.embed_tokens.weight")
        own_output = name.endswith(".nextn.shared_head_head.weight")
        if (own_table and shape[0] != tokens) or (own_output and shape[0] not in rows):
            found.impossible.append(f"{name} is for {shape[0]} tokens, but the model has {tokens}")


def _token_ids(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return tensor.integers() if tensor.block_type == I32 else np.zeros(0, np.int32)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _value(value: object) -> str:
    match value:
        case str():
            return shown(value)
        case float() | np.floating():
            return f"{value:.6g}"
        case np.ndarray() | LazyStrings():
            return described(value)
        case _:
            return str(value)
