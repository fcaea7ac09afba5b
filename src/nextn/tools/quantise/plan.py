"""Decides what becomes of each tensor when a model is quantised."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from nextn.errors import RequestError
from nextn.files.block_encoding import ENCODED_TYPES, FLOAT_TYPES
from nextn.files.block_formats import BLOCK_TYPES, BlockType
from nextn.models.head_tensors import head_tensor_names
from nextn.tools.quantise.file_types import FALLBACKS, FILE_TYPES, LAST_FALLBACK, FileType
from nextn.tools.quantise.mixes import (
    OUTPUT,
    TOKEN_EMBEDDING,
    ModelShape,
    is_quantised,
    mixed_types,
)

MIX: Final = "mix"
"""For heads: the formats that the mix gives to any block."""

_HEAD_TYPE: Final = "Q8_0"
_READABLE: Final = {block_type.name for block_type in BLOCK_TYPES.values()}


class Shaped(Protocol):
    """A tensor as far as planning goes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""

    @property
    def block_type(self) -> BlockType:
        """Format of its bytes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is to be quantised.

    Attributes:
        file_type: one of `FILE_TYPES`.
        head_type: block format of a prediction head's matrices, or `MIX`; None keeps them at Q8_0
            or better.
        tensor_types: patterns (regular expressions, searched in the name) and block formats; the
            first that fits counts, before all other rules.
        output_type: block format of the output matrix; of the embedding if that serves as one.
        token_embedding_type: block format of the embedding.
        pure: the default format for all matrices, whatever their role.
        allow_requantize: also change tensors that are quantised already.
    """

    file_type: str
    head_type: str | None = None
    tensor_types: Sequence[tuple[str, str]] = field(default=())
    output_type: str | None = None
    token_embedding_type: str | None = None
    pure: bool = False
    allow_requantize: bool = False


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """What becomes of a tensor.

    Attributes:
        name: of the tensor.
        shape: rows first.
        source: its format now.
        target: its format then; the same if it is copied.
        wanted: its format, if its rows were whole blocks of that.
        reason: why that format.
        head: whether it belongs to a prediction head.
    """

    name: str
    shape: tuple[int, ...]
    source: BlockType
    target: BlockType
    wanted: BlockType
    reason: str
    head: bool

    @property
    def changes(self) -> bool:
        """Whether it is encoded anew."""
        return self.source != self.target

    @property
    def falls_back(self) -> bool:
        """Whether it gets another format because of the length of its rows."""
        return self.changes and self.shape[-1] % self.wanted.elements != 0

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def source_bytes(self) -> int:
        """Its size now."""
        return self.source.row_bytes(self.elements)

    @property
    def target_bytes(self) -> int:
        """Its size then."""
        return self.target.row_bytes(self.elements)


def plan_tensors(
    tensors: Mapping[str, Shaped],
    model: ModelShape,
    settings: Settings,
    *,
    with_importance: bool = False,
) -> list[TensorPlan]:
    """Decide the format of every tensor, in the order that they are given in.

    Args:
        tensors: all tensors of a model.
        model: its shape.
        settings: what is wanted.
        with_importance: whether there is an importance matrix.

    Raises:
        RequestError: an unknown type, a pattern that fits no matrix, or a tensor that is quantised
            already without `allow_requantize`.
    """
    file_type = _file_type(settings.file_type)
    matrices = [name for name, tensor in tensors.items() if is_quantised(name, tensor.shape)]
    overrides = [
        (_pattern(text, matrices), _block_type(kind)) for text, kind in settings.tensor_types
    ]
    head = head_tensor_names(tensors)
    mixed = mixed_types(matrices, model, file_type, with_importance=with_importance)
    if settings.pure:
        mixed = dict.fromkeys(mixed, file_type.default)
    asked = _asked_for(settings, matrices, overrides, head)
    plans = []
    for name, tensor in tensors.items():
        shape, source = tensor.shape, tensor.block_type
        wanted, target, reason = source, source, "as it is"
        if name in asked:
            wanted, reason = asked[name]
            target, reason = _fitting(shape, wanted, reason)
        elif name in mixed:
            is_head = name in head and settings.head_type != MIX
            wanted, reason = _usual(mixed[name], file_type, is_head=is_head)
            target, reason = _fitting(shape, wanted, reason)
            target, reason = _not_larger(source, target, reason)
        plans.append(TensorPlan(name, shape, source, target, wanted, reason, name in head))
    _check_requantised(plans, settings)
    return plans


def _asked_for(
    settings: Settings,
    matrices: Sequence[str],
    overrides: Sequence[tuple[re.Pattern[str], BlockType]],
    head: set[str],
) -> dict[str, tuple[BlockType, str]]:
    """The format of each matrix whose format was asked for, and how."""
    asked: dict[str, tuple[BlockType, str]] = {}
    if settings.head_type not in (None, MIX):
        head_type = _block_type(str(settings.head_type))
        asked |= {name: (head_type, "head, asked for") for name in matrices if name in head}
    for pattern, block_type in reversed(overrides):
        reason = f"asked for by {pattern.pattern}"
        asked |= {name: (block_type, reason) for name in matrices if pattern.search(name)}
    output = OUTPUT if OUTPUT in matrices else TOKEN_EMBEDDING
    for name, kind in (
        (output, settings.output_type),
        (TOKEN_EMBEDDING, settings.token_embedding_type),
    ):
        if kind is not None and name in matrices:
            asked[name] = _block_type(kind), "asked for"
    return asked


def _usual(mixed: str, file_type: FileType, *, is_head: bool) -> tuple[BlockType, str]:
    if is_head:
        kept = file_type.default if file_type.is_float else _HEAD_TYPE
        return ENCODED_TYPES[kept], "head"
    return ENCODED_TYPES[mixed], "default" if mixed == file_type.default else "role"


def _fitting(shape: tuple[int, ...], target: BlockType, reason: str) -> tuple[BlockType, str]:
    """A format whose blocks divide the rows."""
    if shape[-1] % target.elements == 0:
        return target, reason
    instead = ENCODED_TYPES[FALLBACKS.get(target.name, LAST_FALLBACK)]
    if shape[-1] % instead.elements:
        instead = ENCODED_TYPES[LAST_FALLBACK]
    return instead, f"rows of {shape[-1]} are not blocks of {target.name}"


def _not_larger(source: BlockType, target: BlockType, reason: str) -> tuple[BlockType, str]:
    """What was quantised to fewer bits does not become better with more."""
    if source.name in FLOAT_TYPES or target.name in FLOAT_TYPES or source == target:
        return target, reason
    if source.bytes * target.elements <= target.bytes * source.elements:
        return source, f"has no more than {source.name} already"
    return target, reason


def _check_requantised(plans: Sequence[TensorPlan], settings: Settings) -> None:
    twice = [plan for plan in plans if plan.changes and plan.source.name not in FLOAT_TYPES]
    if not twice:
        return
    unreadable = [plan for plan in twice if plan.source.name not in _READABLE]
    if unreadable:
        raise RequestError(
            f"tensor {unreadable[0].name} is {unreadable[0].source.name}, which nextn copies, but "
            "does not read; begin with a model of higher precision"
        )
    if not settings.allow_requantize:
        raise RequestError(
            f"{len(twice)} tensors, such as {twice[0].name} ({twice[0].source.name}), are "
            "quantised already, and would lose more than from the original; take F16 or BF16, or "
            "--allow-requantize"
        )


def _file_type(name: str) -> FileType:
    found = FILE_TYPES.get(name.upper())
    if found is None:
        raise RequestError(f"type {name!r} is unknown; nextn writes {', '.join(FILE_TYPES)}")
    return found


def _block_type(name: str) -> BlockType:
    found = ENCODED_TYPES.get(name.upper())
    if found is None:
        raise RequestError(
            f"block format {name!r} is unknown; nextn writes {', '.join(ENCODED_TYPES)}"
        )
    return found


def _pattern(text: str, matrices: Iterable[str]) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise RequestError(f"pattern {text!r} is no regular expression: {error}") from None
    if not any(map(pattern.search, matrices)):
        raise RequestError(f"pattern {text!r} fits no matrix of the model that is quantised")
    return pattern
