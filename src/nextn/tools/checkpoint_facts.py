"""What a safetensors checkpoint holds, read from its headers and JSON files; no weight is read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from nextn.errors import FileFormatError, NextnError
from nextn.files.safetensors import Config, SafetensorsFolder
from nextn.files.safetensors.limits import MOST_TOKENIZER_BYTES
from nextn.files.safetensors.quantised import Weight, Weights, find_weights
from nextn.tools.convert.head_names import head_like
from nextn.tools.convert.names import check_placement, find_embedding, place
from nextn.tools.convert.pre_tokenizer import find_rule_name
from nextn.tools.convert.settings import (
    HEAD_COUNTS,
    declared_head_blocks,
    find_family,
    model_metadata,
    read_dimensions,
)
from nextn.tools.convert.vocabulary import FILE_NAME

_LAYER = re.compile(r"(?:model\.|language_model\.)*layers\.([0-9]+)\.")
# In this order; the first whose expression a name matches is its group.
_GROUPS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("other senses", re.compile(r"vision|visual|multi_modal|audio")),
    ("embedding", re.compile(r"embed_tokens|wte\b|word_embeddings")),
    ("output", re.compile(r"lm_head|embed_out")),
    ("norms", re.compile(r"norm")),
    ("experts", re.compile(r"experts|block_sparse_moe|\.gate\.")),
    ("attention", re.compile(r"attn|attention")),
    ("feed-forward", re.compile(r"mlp|feed_forward|ffn")),
)
_OTHER = "other"


@dataclass(slots=True)
class WeightGroup:
    """Weights that do the same.

    Attributes:
        name: one of those of `_GROUPS`, "head" or "other".
        weights: how many.
        parameters: their elements.
        bytes: their size, scales included.
        layouts: how they are stored -> bytes.
    """

    name: str
    weights: int = 0
    parameters: int = 0
    bytes: int = 0
    layouts: dict[str, int] = field(default_factory=dict)

    @property
    def bits_per_weight(self) -> float:
        """Bits on disk per element."""
        return 8 * self.bytes / max(1, self.parameters)


@dataclass(frozen=True, slots=True)
class CheckpointHead:
    """Whether a checkpoint has a prediction head.

    Attributes:
        key: the setting that declares it; the usual one if none does.
        declared: blocks that it declares.
        weights: names of its weights.
        bytes: their size.
        layouts: how they are stored -> bytes.
    """

    key: str
    declared: int
    weights: tuple[str, ...]
    bytes: int
    layouts: dict[str, int]

    @property
    def status(self) -> str:
        """Return "yes", "no", "missing" (declared only) or "undeclared" (weights only)."""
        if self.declared:
            return "yes" if self.weights else "missing"
        return "undeclared" if self.weights else "no"


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What there is to know about a checkpoint; None where it does not say.

    Attributes:
        path: the folder, or the file.
        files: safetensors files.
        file_bytes: their size.
        model_type: of config.json.
        unsupported: why nextn cannot convert it; None if it can, as far as headers tell.
        parameters: elements of all weights.
        groups: of weights.
        layouts: how weights are stored -> bytes, the most first.
        declared_method: name of the quantisation in the configuration.
        activation_scales: tensors that only quantise activations.
        blocks, hidden, feed_forward, heads, kv_heads, context: as in config.json.
        vocabulary: rows of the embedding.
        tokenizer: kind and pre-tokenizer.
        chat_template: whether there is one.
        head: its prediction head.
        unlisted: tensors that the index does not list.
        other_files: safetensors files that are not of the checkpoint.
    """

    path: str
    files: int
    file_bytes: int
    model_type: str | None
    unsupported: str | None
    parameters: int
    groups: list[WeightGroup]
    layouts: dict[str, int]
    declared_method: str | None
    activation_scales: int
    blocks: int | None
    hidden: int | None
    feed_forward: int | None
    heads: int | None
    kv_heads: int | None
    context: int | None
    vocabulary: int | None
    tokenizer: str | None
    chat_template: bool
    head: CheckpointHead
    unlisted: list[str]
    other_files: list[str]

    @property
    def bits_per_weight(self) -> float:
        """Bits on disk per element."""
        return 8 * sum(group.bytes for group in self.groups) / max(1, self.parameters)


def read_checkpoint_facts(folder: SafetensorsFolder) -> CheckpointFacts:
    """Gather what is known about a checkpoint; a folder without config.json is described, too.

    Raises:
        SourceError, FileFormatError: a file that cannot be read or breaks the rules of its format.
        UnsupportedModelError: a layout of weights that nextn does not know.
    """
    outer = folder.json("config.json") or Config(folder.folder / "config.json", {})
    config = outer.section("text_config") if "text_config" in outer else outer
    weights = find_weights(folder)
    blocks = _count(config, "num_hidden_layers")
    names = head_names(weights.by_name, blocks)
    embedding = next(
        (w for name, w in weights.by_name.items() if name.endswith("embed_tokens.weight")), None
    )
    return CheckpointFacts(
        path=str(folder.path),
        files=len(folder.files),
        file_bytes=folder.file_bytes,
        model_type=outer.string("model_type", "") or None,
        unsupported=_unsupported(folder, weights),
        parameters=sum(weight.elements for weight in weights.by_name.values()),
        groups=_groups(weights.by_name.values(), set(names)),
        layouts=weights.layouts(),
        declared_method=weights.declared.method,
        activation_scales=len(weights.activation_scales),
        blocks=blocks,
        hidden=_count(config, "hidden_size"),
        feed_forward=_count(config, "intermediate_size"),
        heads=_count(config, "num_attention_heads"),
        kv_heads=_count(config, "num_key_value_heads"),
        context=_count(config, "max_position_embeddings"),
        vocabulary=embedding.shape[0] if embedding is not None and embedding.shape else None,
        tokenizer=_tokenizer(folder),
        chat_template=folder.chat_template is not None,
        head=_head(folder, config, weights, names),
        unlisted=folder.unlisted,
        other_files=folder.other_files,
    )


def head_names(names: Iterable[str], blocks: int | None) -> list[str]:
    """The names that belong to a prediction head, whatever the family.

    Args:
        names: of all weights.
        blocks: of the trunk; blocks behind them are a head's.
    """
    names = list(names)
    behind = [
        name
        for name in names
        if blocks is not None and (match := _LAYER.match(name)) and int(match[1]) >= blocks
    ]
    return sorted({*behind, *head_like(names)})


def _count(config: Config, key: str) -> int | None:
    return config.integer(key, minimum=0) if key in config else None


def _unsupported(folder: SafetensorsFolder, weights: Weights) -> str | None:
    """Go through the checks of a conversion that need no weight."""
    if not (folder.folder / "config.json").exists():
        return "there is no config.json"
    try:
        family, config = find_family(folder)
        prefix, embedding = find_embedding(weights.by_name, folder.path)
        sizes = read_dimensions(family, config, embedding.shape[0])
        model_metadata(family, config, sizes, [])
        placement = place(family, sizes, prefix, weights.by_name.values(), folder.path)
        check_placement(family, sizes, placement, folder.path, with_head=True)
        declared = declared_head_blocks(folder, config)
        if declared is not None and declared[1] != placement.head_blocks:
            return "the head that it declares is not there; --no-head converts it without"
    except FileFormatError as error:
        return f"{error.field}: {error.reason}"
    except NextnError as error:
        text = str(error)
        # The path is on the page already.
        for prefix in (f"{folder.config.path}: ", f"{folder.path}: "):
            text = text.removeprefix(prefix)
        return text
    return None


def _groups(weights: Iterable[Weight], head: set[str]) -> list[WeightGroup]:
    order = [*(name for name, _ in _GROUPS), "head", _OTHER]
    groups = {name: WeightGroup(name) for name in order}
    for weight in weights:
        name = "head" if weight.name in head else _group_of(weight.name)
        group = groups[name]
        group.weights += 1
        group.parameters += weight.elements
        group.bytes += weight.nbytes
        group.layouts[weight.layout] = group.layouts.get(weight.layout, 0) + weight.nbytes
    return [group for group in groups.values() if group.weights]


def _group_of(name: str) -> str:
    return next((group for group, pattern in _GROUPS if pattern.search(name)), _OTHER)


def _tokenizer(folder: SafetensorsFolder) -> str | None:
    tokenizer = folder.json(FILE_NAME, most=MOST_TOKENIZER_BYTES)
    if tokenizer is None:
        return None
    model = tokenizer.section("model")
    if model.boolean("byte_fallback", False):
        return "pieces with scores"
    try:
        return f"byte-level, {find_rule_name(tokenizer)}"
    except NextnError:
        return f"{model.string('type', 'unknown kind')}, not known to nextn"


def _head(
    folder: SafetensorsFolder, config: Config, weights: Weights, names: list[str]
) -> CheckpointHead:
    found = None
    if (folder.folder / "config.json").exists():
        found = declared_head_blocks(folder, config)
    key, declared = found or (HEAD_COUNTS[0], 0)
    layouts: dict[str, int] = {}
    for name in names:
        weight = weights.by_name[name]
        layouts[weight.layout] = layouts.get(weight.layout, 0) + weight.nbytes
    return CheckpointHead(key, declared, tuple(names), sum(layouts.values()), layouts)
