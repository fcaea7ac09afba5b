"""Which weight of a checkpoint becomes which tensor of the GGUF file.

Every weight is placed, is known to mean nothing to the text, or is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files.safetensors.quantised import Weight
from nextn.tools.convert.families import Dimensions, FamilyMap
from nextn.tools.convert.head_names import IN_BLOCK, REQUIRED, head_like, in_own_part

EMBEDDING = "embed_tokens.weight"
MOST_TOKENS = 1 << 22
"""Rows that an embedding may have, each of which gets a token; 262,208 are in use."""
MOST_HEAD_BLOCKS = 64
"""Blocks that a head may have; 3 are in use. A block with a higher number is not understood."""

# In front of the names of the trunk: bare, with its output matrix, or as the text part of a model
# that sees, in the order of two versions of the library.
_PREFIXES = ("model.", "model.language_model.", "language_model.model.", "")
_OUTPUTS = ("lm_head", "language_model.lm_head", "model.lm_head")
_LAYER = re.compile(r"layers\.([0-9]+)\.(.+)")
_OTHER_SENSES = re.compile(
    r"(?:model\.)?(?:vision_tower|vision_model|visual|multi_modal_projector|audio_tower|embed_vision)\."
)
# Tables that are computed from the configuration.
_COMPUTED = re.compile(r".*(?:rotary_emb\.(?:inv_freq|original_inv_freq)|masked_bias|position_ids)")
_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor of the file.

    Attributes:
        name: as GGUF files call it.
        role: its name without the block and ".weight" or ".bias".
        weight: where its values come from.
    """

    name: str
    role: str
    weight: Weight

    @property
    def is_bias(self) -> bool:
        """Whether it is the bias of its role."""
        return self.name.endswith(".bias")


@dataclass(slots=True)
class Placement:
    """Where all weights go.

    Attributes:
        trunk: tensors of the trunk, by name.
        head: tensors of the head, by name.
        head_blocks: blocks of the head.
        ignored: weights that mean nothing to the text.
        unknown: weights that nextn cannot place.
    """

    trunk: dict[str, Target] = field(default_factory=dict)
    head: dict[str, Target] = field(default_factory=dict)
    head_blocks: int = 0
    ignored: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def find_embedding(weights: Mapping[str, Weight], path: Path) -> tuple[str, Weight]:
    """Find the embedding, and with it what stands in front of the names of the trunk.

    Raises:
        FileFormatError: there is none, or it is not a matrix.
    """
    for prefix in _PREFIXES:
        weight = weights.get(prefix + EMBEDDING)
        if weight is not None:
            if len(weight.shape) != 2 or 0 in weight.shape:
                raise FileFormatError(path, f"tensor {weight.name}", "is not a matrix")
            if weight.shape[0] > MOST_TOKENS:
                raise FileFormatError(
                    path,
                    f"tensor {weight.name}",
                    f"has {weight.shape[0]} rows; at most {MOST_TOKENS} are allowed",
                )
            return prefix, weight
    raise FileFormatError(path, f"tensor {_PREFIXES[0]}{EMBEDDING}", "is missing")


def place(
    family: FamilyMap, sizes: Dimensions, prefix: str, weights: Iterable[Weight], path: Path
) -> Placement:
    """Place all weights.

    Args:
        family: of the model.
        sizes: of the model.
        prefix: what stands in front of the names of the trunk.
        weights: of the checkpoint.
        path: named in errors.

    Raises:
        FileFormatError: two weights for the same tensor.
    """
    placement = Placement()
    for weight in weights:
        module, _, kind = weight.name.rpartition(".")
        found = None
        if kind in ("weight", "bias"):
            found = _place_module(family, sizes, prefix, module)
        if found is None or (found[0] or 0) >= sizes.blocks + MOST_HEAD_BLOCKS:
            if _OTHER_SENSES.match(weight.name) or _COMPUTED.fullmatch(weight.name):
                placement.ignored.append(weight.name)
            else:
                placement.unknown.append(weight.name)
            continue
        block, role = found
        name = f"{role}.{kind}" if block is None else f"blk.{block}.{role}.{kind}"
        is_head = block is not None and block >= sizes.blocks
        targets = placement.head if is_head else placement.trunk
        if name in targets:
            raise FileFormatError(
                path,
                f"tensor {weight.name}",
                f"is {name}, which {targets[name].weight.name} is, too",
            )
        targets[name] = Target(name, role, weight)
        if is_head and block is not None:
            placement.head_blocks = max(placement.head_blocks, block - sizes.blocks + 1)
    return placement


def _place_module(
    family: FamilyMap, sizes: Dimensions, prefix: str, module: str
) -> tuple[int | None, str] | None:
    """The block and the role of a module; None if nextn does not know it."""
    if module in _OUTPUTS:
        return None, "output"
    own = in_own_part(module)
    if own is not None:
        role = own.role or family.block.get(own.rest or "")
        return None if role is None else (sizes.blocks + own.block, role)
    inner = module.removeprefix(prefix)
    if inner == module and prefix:
        return None
    outer = {"embed_tokens": "token_embd", "norm": "output_norm"}.get(inner)
    if outer is not None:
        return None, outer
    layer = _LAYER.fullmatch(inner)
    if layer is None:
        return None
    block = int(layer[1])
    role = family.block.get(layer[2])
    if role is None and block >= sizes.blocks:
        role = IN_BLOCK.get(layer[2])
    return None if role is None else (block, role)


def check_placement(
    family: FamilyMap, sizes: Dimensions, placement: Placement, path: Path, *, with_head: bool
) -> None:
    """Check that everything is there, has the right shape, and that nothing is left.

    Args:
        family: of the model.
        sizes: of the model.
        placement: of its weights.
        path: named in errors.
        with_head: whether the head is wanted; if not, unknown weights that look like one are no
            error.

    Raises:
        FileFormatError: a weight that is missing, or has another shape.
        UnsupportedModelError: a weight that nextn does not know.
    """
    _check_unknown(placement, path, with_head=with_head)
    needed = [f"blk.{n}.{role}" for n in range(sizes.blocks) for role in family.block.values()]
    _check_there(family, placement.trunk, ["token_embd", "output_norm", *needed], path)
    if with_head:
        blocks = range(sizes.blocks, sizes.blocks + placement.head_blocks)
        needed = [f"blk.{n}.{r}" for n in blocks for r in (*REQUIRED, *family.block.values())]
        _check_there(family, placement.head, needed, path)
    biases = family.biases | family.optional_biases
    for target in (*placement.trunk.values(), *(placement.head.values() if with_head else ())):
        if target.is_bias and target.role not in biases:
            raise UnsupportedModelError(
                f"{path}: tensor {target.weight.name}: nextn's {family.architecture} has no such "
                "bias, and the text would be wrong without it"
            )
        shape = sizes.shape(target.role)
        expected = shape[:1] if target.is_bias else shape
        if target.weight.shape != expected:
            raise FileFormatError(
                path,
                f"tensor {target.weight.name}",
                f"has the shape {list(target.weight.shape)}, but config.json says {list(expected)}",
            )


def _check_unknown(placement: Placement, path: Path, *, with_head: bool) -> None:
    like = set(head_like(placement.unknown))
    other = [name for name in placement.unknown if name not in like]
    if other:
        raise UnsupportedModelError(
            f"{path}: {_list('tensor', other)}: not known, and the text would be wrong without it"
        )
    if like and with_head:
        raise UnsupportedModelError(
            f"{path}: {_list('tensor', sorted(like))}: of a prediction head of a kind that nextn "
            "does not know; --no-head converts the model without it"
        )


def _check_there(
    family: FamilyMap, targets: Mapping[str, Target], needed: Iterable[str], path: Path
) -> None:
    for stem in needed:
        role = stem.partition("blk.")[2].partition(".")[2] or stem
        for kind in ("weight", "bias") if role in family.biases else ("weight",):
            if f"{stem}.{kind}" not in targets:
                raise FileFormatError(
                    path, f"tensor {_disk_name(family, stem)}.{kind}", "is missing"
                )


def _disk_name(family: FamilyMap, stem: str) -> str:
    """How the checkpoint calls what is missing, near enough for a message."""
    _, _, rest = stem.partition("blk.")
    if not rest:
        return {"token_embd": "embed_tokens", "output_norm": "norm"}.get(stem, stem)
    number, _, role = rest.partition(".")
    names = {role: name for name, role in (*IN_BLOCK.items(), *family.block.items())}
    return f"layers.{number}.{names.get(role, role)}"


def _list(what: str, names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}{'s' if len(names) > 1 else ''} {shown}{more}"
