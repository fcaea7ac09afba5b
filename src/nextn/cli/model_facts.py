"""What a checkpoint's header says about a model; no weight is read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nextn.backends import BLOCK_TOKENS
from nextn.cli.head_facts import HeadDetail, head_detail
from nextn.engine.memory import available_memory
from nextn.errors import FileFormatError, NextnError, RequestError
from nextn.files import Checkpoint, Tensor
from nextn.files.block_formats import COPIED_TYPES
from nextn.files.gguf import LazyStrings
from nextn.heads import AUTOMATIC, FoundHead, find_head
from nextn.models.head_tensors import (
    HEAD_LAYERS_KEY,
    declared_head_layers,
    head_status,
    head_tensor_names,
    place_of,
)
from nextn.models.nextn_head import HeadedModel

_GROUPS = ("embedding", "attention", "feed-forward", "experts", "output", "norms", "head", "other")


@dataclass(slots=True)
class Group:
    """Tensors that do the same.

    Attributes:
        name: one of "embedding", "attention", "feed-forward", "experts", "output", "norms", "head",
            "other".
        tensors: how many.
        parameters: their elements.
        bytes: their size in the file.
        types: block format -> bytes.
        bits_per_weight: bits in the file per element.
    """

    name: str
    tensors: int = 0
    parameters: int = 0
    bytes: int = 0
    types: dict[str, int] = field(default_factory=dict)
    bits_per_weight: float = 0.0


@dataclass(frozen=True, slots=True)
class HeadFacts:
    """Whether the file has a prediction head.

    Attributes:
        key: the metadata key that declares it.
        declared: layers that the key declares; 0 if it is not there.
        tensors: tensors of the head.
        bytes: their size.
    """

    key: str
    declared: int
    tensors: int
    bytes: int

    @property
    def status(self) -> str:
        """See `head_status`."""
        return head_status(self.declared, bool(self.tensors))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that `nextn run` uses at most.

    Attributes:
        context: tokens that it is computed for.
        weights: the weights.
        cache: keys and values of `context` tokens.
        cache_per_token: of one token.
        working: logits, and the values of one step.
        total: all of it.
        available: what this process may use; None if the system does not say.
    """

    context: int
    weights: int
    cache: int
    cache_per_token: int
    working: int
    total: int
    available: int | None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What `nextn show` shows; None where the file does not say.

    Attributes:
        title: `general.name`.
        path: the file; of a split model its first part.
        file_bytes: size of all parts.
        architecture: `general.architecture`.
        unsupported: why nextn cannot run it; None if it can.
        parameters: elements of all tensors.
        bits_per_weight: bits in the file per parameter.
        groups: its tensors.
        blocks: transformer blocks, those of a head included.
        hidden: width of the residual stream.
        feed_forward: width of the feed-forward blocks.
        heads: attention heads.
        kv_heads: key/value heads.
        context: tokens that it was trained for.
        vocabulary: number of tokens.
        tokenizer: kind of tokenizer.
        pre_tokenizer: how it splits text into words.
        chat_template: whether it has one.
        head: whether it has a prediction head.
        used_head: the head that is used, wherever it is; None if there is none.
        rejected_heads: one line about each head that was found and cannot be used.
        head_detail: the head that is used in full, or that in the file if none is used; None if
            there is none.
        memory: what running it takes, with the head; None if it cannot be run.
    """

    title: str | None
    path: str
    file_bytes: int
    architecture: str
    unsupported: str | None
    parameters: int
    bits_per_weight: float
    groups: list[Group]
    blocks: int | None
    hidden: int | None
    feed_forward: int | None
    heads: int | None
    kv_heads: int | None
    context: int | None
    vocabulary: int | None
    tokenizer: str | None
    pre_tokenizer: str | None
    chat_template: bool
    head: HeadFacts
    used_head: FoundHead | None
    rejected_heads: tuple[str, ...]
    head_detail: HeadDetail | None
    memory: Memory | None


def read_facts(
    checkpoint: Checkpoint,
    context: int | None = None,
    *,
    head: str | None = AUTOMATIC,
    published_head: Path | None = None,
) -> ModelFacts:
    """Gather the facts.

    Args:
        checkpoint: an open model.
        context: tokens to compute the memory for; by default as many as `nextn run` would take.
        head: a file with a head for the model; see `nextn.heads.find_head`.
        published_head: a file of heads that was published with the model.

    Raises:
        RequestError: a context that the model was not trained for.
        NextnError: the head that was asked for cannot be used.
    """
    groups = _group(checkpoint.tensors.values())
    parameters = sum(group.parameters for group in groups)
    size = sum(group.bytes for group in groups)
    search = find_head(checkpoint, head, published=published_head, check_weights=False)
    memory, unsupported = _plan_memory(checkpoint, context, search.model)
    return ModelFacts(
        title=_string(checkpoint, "general.name"),
        path=str(checkpoint.path),
        file_bytes=checkpoint.file_bytes,
        architecture=checkpoint.architecture,
        unsupported=unsupported,
        parameters=parameters,
        bits_per_weight=_bits(size, parameters),
        groups=groups,
        blocks=_integer(checkpoint, "{arch}.block_count"),
        hidden=_integer(checkpoint, "{arch}.embedding_length"),
        feed_forward=_integer(checkpoint, "{arch}.feed_forward_length"),
        heads=_integer(checkpoint, "{arch}.attention.head_count"),
        kv_heads=_integer(checkpoint, "{arch}.attention.head_count_kv"),
        context=_integer(checkpoint, "{arch}.context_length"),
        vocabulary=_vocabulary(checkpoint),
        tokenizer=_string(checkpoint, "tokenizer.ggml.model"),
        pre_tokenizer=_string(checkpoint, "tokenizer.ggml.pre"),
        chat_template=checkpoint.chat_template is not None,
        head=_head(checkpoint),
        used_head=search.found,
        # A model that nextn cannot run is said to be one; its head is not worth a word.
        rejected_heads=search.rejected if unsupported is None else (),
        head_detail=head_detail(checkpoint if search.model is None else search.model.file),
        memory=memory,
    )


def _head(checkpoint: Checkpoint) -> HeadFacts:
    key = HEAD_LAYERS_KEY.format(arch=checkpoint.architecture)
    found = head_tensor_names(checkpoint.tensors)
    size = sum(checkpoint.tensors[name].nbytes for name in found)
    return HeadFacts(key, declared_head_layers(checkpoint), len(found), size)


def _group(tensors: Iterable[Tensor]) -> list[Group]:
    tensors = list(tensors)
    head = head_tensor_names(tensor.name for tensor in tensors)
    groups = {name: Group(name) for name in _GROUPS}
    for tensor in tensors:
        group = groups["head" if tensor.name in head else _group_name(tensor.name)]
        group.tensors += 1
        group.parameters += math.prod(tensor.shape)
        group.bytes += tensor.nbytes
        format_name = tensor.block_type.name
        group.types[format_name] = group.types.get(format_name, 0) + tensor.nbytes
    for group in groups.values():
        group.bits_per_weight = _bits(group.bytes, group.parameters)
    return [group for group in groups.values() if group.tensors]


def _group_name(tensor: str) -> str:
    _, role = place_of(tensor)
    if "norm" in role:
        return "norms"
    if role.startswith("token_embd."):
        return "embedding"
    if role.startswith("output."):
        return "output"
    if "_exps" in role or "_shexp" in role or role.startswith("ffn_gate_inp"):
        return "experts"
    if role.startswith("attn_"):
        return "attention"
    return "feed-forward" if role.startswith("ffn_") else "other"


def _plan_memory(
    checkpoint: Checkpoint, context: int | None, head: HeadedModel | None
) -> tuple[Memory | None, str | None]:
    """What running the model takes, or why it cannot be run."""
    from nextn.model_size import size_model

    copied = next((t for t in checkpoint.tensors.values() if t.block_type.id in COPIED_TYPES), None)
    if copied is not None:
        name = copied.block_type.name
        return None, f"tensor {copied.name}: the block format {name} is not supported"
    try:
        size = size_model(checkpoint, context, "cpu", max_sequences=1, head=head)
    except RequestError:
        raise
    except NextnError as error:
        return None, str(error).removeprefix(f"{checkpoint.path}: ")
    need = size.need
    memory = Memory(
        size.context,
        need.weights,
        need.cache,
        need.cache // (size.block_count * BLOCK_TOKENS),
        need.working,
        need.total,
        available_memory(),
    )
    return memory, None


def _vocabulary(checkpoint: Checkpoint) -> int | None:
    tokens = checkpoint.metadata.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, LazyStrings) else None


def _integer(checkpoint: Checkpoint, key: str) -> int | None:
    """An integer for show; some architectures have a list of them, one per block."""
    try:
        return checkpoint.integer(key)
    except FileFormatError:
        return None


def _string(checkpoint: Checkpoint, key: str) -> str | None:
    try:
        return checkpoint.string(key)
    except FileFormatError:
        return None


def _bits(size: int, parameters: int) -> float:
    return size * 8 / parameters if parameters else 0.0
