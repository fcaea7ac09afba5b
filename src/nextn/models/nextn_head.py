"""The nextn head (DeepSeek-AI, 2024, section 2.2): one more block, which looks one token further.

A row of the head at position p takes the token at position p and the trunk's hidden state of
position p - 1 (zeros at position 0), and predicts the token at position p + 1:

    e = norm(embedding of the token; enorm)
    h = norm(hidden state; hnorm)
    x = block(eh_proj @ [e, h])             a block of the trunk's family, with its own keys/values
    logits = output @ norm(x; head norm)

What it keeps as its own hidden state stands in for the trunk's until the trunk has been there, so a
second token is drafted by running the head again, one position further.

The tensors are called as in llama.cpp: "blk.N.nextn.*" and the tensors of an ordinary block N,
where N is the number of blocks of the trunk. Where a head has none of its own, it uses the trunk's
embedding, last norm and output matrix. A *draft vocabulary*, the tensor "blk.N.nextn.draft_vocab",
lists the tokens that the head can draft; of the output matrix only their rows are multiplied.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from nextn.errors import FileFormatError, UnsupportedModelError, shown
from nextn.files import Checkpoint
from nextn.files.gguf import LazyStrings
from nextn.models import Family, HiddenKind, load_family, load_model_plan
from nextn.models.head_tensors import (
    HEAD_LAYERS_KEY,
    declared_head_layers,
    head_tensor_names,
    is_head_only,
    trunk_blocks,
)
from nextn.models.weights import NewWeights, WeightReader
from nextn.plan import Plan, Tracer

HIDDEN_KEY = "nextn.head.hidden"
TRUNK_KEY = "nextn.head.trunk"
VOCAB_HASH_KEY = "nextn.head.vocab_hash"
OUTPUT_KEY = "nextn.head.output"
OUTPUT_OF_TRUNK = "trunk"
"""Value of `OUTPUT_KEY`: the head's output matrix holds rows of the trunk's, rounded."""
DEFAULT_HIDDEN: HiddenKind = "post"

_HIDDEN_LAYER = 0  # the only one of a trunk


@dataclass(frozen=True, slots=True)
class HeadedModel:
    """A trunk and its head, described.

    Attributes:
        checkpoint: the trunk's metadata, and the tensors of both.
        trunk: plan of the trunk, which keeps hidden states; not yet fused.
        head: plan of the head, not yet fused. Its `token_ids` are the draft vocabulary.
        hidden_kind: the hidden state that the head takes.
        file: the checkpoint that the head comes from.
        tensors: names of the head's own tensors.
    """

    checkpoint: Checkpoint
    trunk: Plan
    head: Plan
    hidden_kind: HiddenKind
    file: Checkpoint
    tensors: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of the head's own tensors in their file."""
        return sum(self.file.tensors[name].nbytes for name in self.tensors)

    @property
    def formats(self) -> tuple[str, ...]:
        """The block formats of its matrices, that with the most bytes first."""
        sizes: dict[str, int] = {}
        for name in self.tensors:
            tensor = self.file.tensors[name]
            if len(tensor.shape) > 1:
                kind = tensor.block_type.name
                sizes[kind] = sizes.get(kind, 0) + tensor.nbytes
        return tuple(sorted(sizes, key=lambda kind: -sizes[kind]))

    @property
    def learned(self) -> tuple[str, ...]:
        """Its tensors without the draft vocabulary, and without rows that are the trunk's."""
        block = trunk_blocks(self.checkpoint)
        copied = {draft_vocabulary_name(block)}
        if self.file.string(OUTPUT_KEY, "") == OUTPUT_OF_TRUNK:
            copied.add(own_output_name(block))
        return tuple(name for name in self.tensors if name not in copied)

    def close(self) -> None:
        """Let go of the files."""
        self.checkpoint.close()
        self.file.close()

    def check_finite(self) -> None:
        """Read all weights of the head, and refuse those that are NaN or infinite.

        Raises:
            FileFormatError: names file, tensor and block.
        """
        for name in self.tensors:
            self.file.tensors[name].check_finite()


def describe_head(
    family: Family,
    step: Tracer,
    weights: WeightReader,
    trunk_weights: WeightReader,
    *,
    hidden_kind: HiddenKind = DEFAULT_HIDDEN,
    token_ids: tuple[int, ...] | None = None,
) -> None:
    """Write down one step of a head.

    Args:
        family: of the trunk.
        step: where to; made with the trunk's plan, which keeps hidden states.
        weights: of the head.
        trunk_weights: of the trunk.
        hidden_kind: which hidden state the head takes and passes on.
        token_ids: its draft vocabulary, ascending; None for all tokens.
    """
    block, hidden, epsilon = f"blk.{family.blocks}", family.hidden, family.epsilon
    own_table = f"{block}.nextn.embed_tokens.weight"
    if weights.has(own_table):
        table = weights.matrix(own_table, family.vocab_size, hidden)
    else:
        table = family.embedding(trunk_weights)
    embedding = step.norm(
        family.embed(step, table), weights.norm(f"{block}.nextn.enorm.weight", hidden, epsilon)
    )
    state = step.norm(
        step.load_hidden(_HIDDEN_LAYER),
        weights.norm(f"{block}.nextn.hnorm.weight", hidden, epsilon),
    )
    project = weights.matrix(f"{block}.nextn.eh_proj.weight", hidden, 2 * hidden)
    x = step.linear(step.concat(embedding, state), project)
    x = family.block(step, x, weights, family.blocks)
    own_norm = f"{block}.nextn.shared_head_norm.weight"
    norm = (
        weights.norm(own_norm, hidden, epsilon)
        if weights.has(own_norm)
        else family.output_norm(trunk_weights)
    )
    normed = step.norm(x, norm)
    step.store_hidden(normed if hidden_kind == "post" else x, _HIDDEN_LAYER, only_wanted=True)
    own_output = own_output_name(family.blocks)
    if weights.has(own_output):
        rows = family.vocab_size if token_ids is None else len(token_ids)
        if weights.row_count(own_output) == family.vocab_size:
            rows = family.vocab_size
        output = weights.matrix(own_output, rows, hidden)
    else:
        output = trunk_weights.output(family.vocab_size, hidden)
    step.logits(normed, output, token_ids)


def load_head_plan(trunk: Checkpoint, head: Checkpoint) -> HeadedModel:
    """Describe a trunk and its head, after checking that they belong together.

    Args:
        trunk: the model.
        head: a head-only file, or a model with a head, such as the trunk itself.

    Raises:
        FileFormatError: a tensor, key or draft vocabulary of the head is missing or wrong.
        UnsupportedModelError: there is no head, it was made for another trunk, or nextn does not
            know its kind.
    """
    trunk_weights, weights = WeightReader(trunk), WeightReader(head)
    family = load_family(trunk, trunk_weights)
    _check_same_model(trunk, head, family)
    _check_blocks(head, family)
    _check_vocabulary(trunk, head)
    hidden_kind = head.string(HIDDEN_KEY, DEFAULT_HIDDEN)
    if hidden_kind not in ("post", "pre"):
        raise FileFormatError(head.path, HIDDEN_KEY, f"is {shown(hidden_kind)}, not post or pre")
    hidden_kind = cast(HiddenKind, hidden_kind)
    token_ids = _draft_vocabulary(head, weights, family)
    trunk_plan = load_model_plan(trunk, hidden_kind)
    step = Tracer(after=trunk_plan)
    describe_head(
        family, step, weights, trunk_weights, hidden_kind=hidden_kind, token_ids=token_ids
    )
    weights.check_head_used()
    names = tuple(sorted(head_tensor_names(head.tensors)))
    file_bytes = trunk.file_bytes + (0 if head is trunk else head.file_bytes)
    tensors = {**trunk.tensors, **{name: head.tensors[name] for name in names}}
    both = Checkpoint(trunk.path, trunk.metadata, tensors, file_bytes)
    return HeadedModel(both, trunk_plan, step.plan(), hidden_kind, head, names)


def new_head_plan(
    trunk: Checkpoint,
    *,
    hidden_kind: HiddenKind = DEFAULT_HIDDEN,
    token_ids: tuple[int, ...] | None = None,
) -> tuple[Plan, Plan, dict[str, tuple[int, ...]]]:
    """Describe a head that is yet to be made for a trunk.

    Args:
        trunk: the model.
        hidden_kind: which hidden state the head takes and passes on.
        token_ids: its draft vocabulary, ascending; None for all tokens.

    Returns:
        The plan of the trunk, that of the head, neither fused, and name -> shape of the tensors
        that the head's file must hold; a draft vocabulary comes in addition to these.
    """
    trunk_weights = WeightReader(trunk)
    family = load_family(trunk, trunk_weights)
    block = f"blk.{family.blocks}.nextn"
    weights = NewWeights(trunk, {f"{block}.shared_head_norm.weight"})
    trunk_plan = load_model_plan(trunk, hidden_kind)
    step = Tracer(after=trunk_plan)
    describe_head(
        family, step, weights, trunk_weights, hidden_kind=hidden_kind, token_ids=token_ids
    )
    return trunk_plan, step.plan(), weights.shapes


def vocabulary_hash(checkpoint: Checkpoint) -> str | None:
    """The SHA-256 of all token strings, joined by NUL, in hex; None if the file lists no tokens."""
    tokens = checkpoint.metadata.get("tokenizer.ggml.tokens")
    if not isinstance(tokens, LazyStrings):
        return None
    return _hash(tokens.joined())


def hash_of_tokens(tokens: Sequence[str]) -> str:
    """The same of the texts of all tokens."""
    return _hash("\0".join(tokens))


def _hash(joined: str) -> str:
    return hashlib.sha256(joined.encode()).hexdigest()


def draft_vocabulary_name(block: int) -> str:
    """Name of the tensor that lists the tokens which the head in block `block` can draft."""
    return f"blk.{block}.nextn.draft_vocab"


def own_output_name(block: int) -> str:
    """Name of the output matrix of its own that the head in block `block` may have."""
    return f"blk.{block}.nextn.shared_head_head.weight"


_ADVICE = "take a head that was made for this model"


def _check_same_model(trunk: Checkpoint, head: Checkpoint, family: Family) -> None:
    if head.architecture != trunk.architecture:
        raise UnsupportedModelError(
            f"{head.path}: general.architecture: a head for {shown(head.architecture)}, but "
            f"{trunk.path} is {shown(trunk.architecture)}; {_ADVICE}"
        )
    hidden = head.integer("{arch}.embedding_length", minimum=1)
    if hidden != family.hidden:
        raise UnsupportedModelError(
            f"{head.path}: {head.architecture}.embedding_length: a head for a hidden size of "
            f"{hidden}, but that of {trunk.path} is {family.hidden}; {_ADVICE}"
        )


def _check_blocks(head: Checkpoint, family: Family) -> None:
    """There must be one head, in the block after the last one of the trunk."""
    key = HEAD_LAYERS_KEY.format(arch=head.architecture)
    declared = declared_head_layers(head)
    if not head_tensor_names(head.tensors):
        if declared:
            raise FileFormatError(
                head.path,
                key,
                f"declares {declared} block(s) of a prediction head, but the file holds no nextn "
                "tensors; it was made by a tool that dropped them, take the original file",
            )
        raise UnsupportedModelError(f"{head.path}: {key}: missing; the file holds no head")
    if declared > 1:
        raise UnsupportedModelError(
            f"{head.path}: {key}: is {declared}; nextn runs heads of one block"
        )
    blocks = trunk_blocks(head) if is_head_only(head) else family.blocks
    if blocks != family.blocks:
        raise UnsupportedModelError(
            f"{head.path}: {head.architecture}.block_count: a head for a trunk of {blocks} blocks, "
            f"but this model has {family.blocks}; {_ADVICE}"
        )


def _check_vocabulary(trunk: Checkpoint, head: Checkpoint) -> None:
    if head is trunk:
        return
    declared = head.string(VOCAB_HASH_KEY, "")
    key = VOCAB_HASH_KEY if declared else "tokenizer.ggml.tokens"
    theirs = declared or vocabulary_hash(head)
    ours = None if theirs is None else vocabulary_hash(trunk)
    if ours is not None and theirs != ours:
        raise UnsupportedModelError(
            f"{head.path}: {key}: a head for another vocabulary than that of {trunk.path}; "
            f"{_ADVICE}"
        )


def _draft_vocabulary(
    head: Checkpoint, weights: WeightReader, family: Family
) -> tuple[int, ...] | None:
    name = draft_vocabulary_name(family.blocks)
    if name not in head.tensors:
        return None
    field = f"tensor {name}"
    weights.ignore(name)
    ids = head.tensors[name].integers()
    if ids.ndim != 1:
        raise FileFormatError(head.path, field, f"has {ids.ndim} dimensions, but is a list")
    outside = np.flatnonzero((ids < 0) | (ids >= family.vocab_size))
    if outside.size:
        raise FileFormatError(
            head.path,
            field,
            f"entry {outside[0]} is {ids[outside[0]]}, but tokens are 0 to "
            f"{family.vocab_size - 1}; {_ADVICE}",
        )
    steps = np.diff(ids.astype(np.int64))
    if (steps <= 0).any():
        at = int(np.flatnonzero(steps <= 0)[0]) + 1
        what = "occurs twice" if ids[at] in ids[:at] else "stands after a larger one"
        raise FileFormatError(
            head.path,
            field,
            f"token {ids[at]} {what}; the list must be ascending, make the head again",
        )
    return tuple(ids.tolist())
