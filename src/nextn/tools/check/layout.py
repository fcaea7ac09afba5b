"""Whether the head that is declared is there, whole, where it belongs, and of the right shapes.

Nothing here runs a model or knows a family. What a head's block must consist of is read off the
trunk: its attention, its feed-forward part and its norms must each be like those of some block of
the trunk. So it also works for families that nextn cannot run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from nextn.errors import FileFormatError
from nextn.files import I32, Checkpoint
from nextn.models.head_tensors import (
    HEAD_LAYERS_KEY,
    block_of,
    declared_head_layers,
    head_tensor_names,
    place_of,
    trunk_blocks,
)
from nextn.tools.check.findings import Finding, doubt, fault, note

Shape = tuple[int, ...]
Part = dict[str, Shape]

_OF_A_MATRIX = (".scale", ".input_scale")
_REQUIRED = ("eh_proj.weight", "enorm.weight", "hnorm.weight")
_OPTIONAL_ROLES = {"layer_output_norm.weight"}  # the last norm of MiMo's heads
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class HeadLayout:
    """Where a head is.

    Attributes:
        declared: blocks that the metadata gives to it.
        blocks: blocks that hold its tensors, ascending.
        expected: the block after the last one of the trunk, where the first of them belongs.
        tensors: names of all its tensors, sorted.
        own_embedding: whether it has embeddings of its own; otherwise it uses the trunk's.
        own_output: the same of the output matrix.
    """

    declared: int
    blocks: tuple[int, ...]
    expected: int
    tensors: tuple[str, ...]
    own_embedding: bool
    own_output: bool


def find_layout(trunk: Checkpoint, head: Checkpoint) -> HeadLayout:
    """Find the head in a file.

    Args:
        trunk: the model.
        head: the file with the head; may be the same.

    Raises:
        FileFormatError: the keys that say how many blocks there are have no possible value.
    """
    names = head_tensor_names(head.tensors)
    direct = {block for name in names if (block := block_of(name)) is not None}
    blocks = trunk_blocks(trunk)
    return HeadLayout(
        declared_head_layers(head),
        tuple(sorted(direct)),
        blocks,
        tuple(sorted(names)),
        *(
            any(name.endswith(f".nextn.{role}.weight") for name in names)
            for role in ("embed_tokens", "shared_head_head")
        ),
    )


def check_layout(trunk: Checkpoint, head: Checkpoint, layout: HeadLayout) -> Iterator[Finding]:
    """Compare what is declared with what is there, and the head's block with the trunk's."""
    key = HEAD_LAYERS_KEY.format(arch=head.architecture)
    yield from _check_declaration(head, layout, key)
    first = layout.blocks[0] if layout.blocks else layout.expected
    if first != layout.expected:
        yield fault(
            "block-index",
            f"blk.{first}",
            f"the head stands in block {first}, but the trunk has {layout.expected} blocks, so "
            f"that it belongs in block {layout.expected}; no program finds it there",
        )
    elif layout.blocks != tuple(range(first, first + len(layout.blocks))):
        yield fault(
            "block-index",
            f"blk.{first}",
            f"the head stands in the blocks {', '.join(map(str, layout.blocks))}, with gaps",
        )
    for block in layout.blocks:
        yield from _check_own_tensors(trunk, head, block)
        yield from _check_block(trunk, head, block, layout.expected)
        yield from _check_draft_vocabulary(trunk, head, block)
        yield from _check_copies(trunk, head, block)


def _check_declaration(head: Checkpoint, layout: HeadLayout, key: str) -> Iterator[Finding]:
    present = len(layout.blocks)
    if not layout.declared:
        yield fault(
            "undeclared",
            key,
            f"is missing or 0, but the file holds {present} block(s) of a head; other programs "
            "load such a file, say nothing, and never use the head: set the key",
        )
    elif layout.declared != present:
        yield fault(
            "declaration",
            key,
            f"declares {layout.declared} block(s), but the file holds {present}",
        )
    total = head.integer("{arch}.block_count", 0)
    end = layout.blocks[-1] + 1 if layout.blocks else total
    if layout.declared and total != end:
        yield fault(
            "declaration",
            f"{head.architecture}.block_count",
            f"is {total}, but with the head there are {end} blocks",
        )


def _check_own_tensors(trunk: Checkpoint, head: Checkpoint, block: int) -> Iterator[Finding]:
    """The tensors called nextn."""
    prefix = f"blk.{block}.nextn."
    hidden = trunk.integer("{arch}.embedding_length", minimum=1)
    table = trunk.tensors.get("token_embd.weight")
    vocabulary = table.shape[0] if table is not None else None
    draft = head.tensors.get(f"{prefix}draft_vocab")
    for role in _REQUIRED:
        if prefix + role not in head.tensors:
            yield fault(
                "missing-tensor",
                prefix + role,
                "is missing; the head cannot work without it: take the original file",
            )
    shapes: dict[str, list[Shape]] = {
        "eh_proj.weight": [(hidden, 2 * hidden)],
        "enorm.weight": [(hidden,)],
        "hnorm.weight": [(hidden,)],
        "shared_head_norm.weight": [(hidden,)],
    }
    if vocabulary is not None:
        rows = {vocabulary} if draft is None else {vocabulary, *draft.shape[:1]}
        shapes["embed_tokens.weight"] = [(vocabulary, hidden)]
        shapes["shared_head_head.weight"] = [(count, hidden) for count in sorted(rows)]
    for name, tensor in head.tensors.items():
        if not name.startswith(prefix) or name.endswith(_OF_A_MATRIX):
            continue
        role = name.removeprefix(prefix)
        if role in shapes:
            if tensor.shape not in shapes[role]:
                yield _wrong_shape(name, tensor.shape, shapes[role][-1])
            elif tensor.block_type == I32:
                yield fault("type", name, "is a list of integers, not of weights")
        elif role != "draft_vocab":
            yield doubt("unknown-tensor", name, "is not known; what it is for is not checked")


def _check_draft_vocabulary(trunk: Checkpoint, head: Checkpoint, block: int) -> Iterator[Finding]:
    name = f"blk.{block}.nextn.draft_vocab"
    tensor = head.tensors.get(name)
    table = trunk.tensors.get("token_embd.weight")
    if tensor is None or table is None:
        return
    if tensor.block_type != I32 or len(tensor.shape) != 1:
        yield fault("draft-vocabulary", name, "is not a list of token ids")
        return
    ids = tensor.integers().astype(np.int64)
    outside = int(((ids < 0) | (ids >= table.shape[0])).sum())
    repeated = len(ids) - len(np.unique(ids))
    if outside:
        yield fault(
            "draft-vocabulary",
            name,
            f"{outside} of {len(ids)} ids are no tokens of the trunk, which has {table.shape[0]}",
        )
    if repeated:
        yield fault("draft-vocabulary", name, f"{repeated} of {len(ids)} ids are repeated")
    if not repeated and (np.diff(ids) <= 0).any():
        yield fault(
            "draft-vocabulary",
            name,
            "is not ascending; the rows of the output matrix are in this order, so that "
            "tokens are mixed up",
        )
    if not (outside or repeated):
        yield note("trimmed", name, f"the head drafts {len(ids):,} of {table.shape[0]:,} tokens")


def _check_copies(trunk: Checkpoint, head: Checkpoint, block: int) -> Iterator[Finding]:
    """Embeddings or an output matrix of its own that are those of the trunk."""
    output = "output.weight" if "output.weight" in trunk.tensors else "token_embd.weight"
    for role, theirs in (("embed_tokens", "token_embd.weight"), ("shared_head_head", output)):
        own = head.tensors.get(f"blk.{block}.nextn.{role}.weight")
        other = trunk.tensors.get(theirs)
        if own is None or other is None or own.nbytes != other.nbytes:
            continue
        if own.block_type == other.block_type and np.array_equal(own.data, other.data):
            text = f"is a copy of the trunk's {theirs}, which would be used without it"
            yield note("copy", own.name, f"{text}; it takes {own.nbytes:,} bytes")


def _check_block(
    trunk: Checkpoint, head: Checkpoint, block: int, trunk_count: int
) -> Iterator[Finding]:
    """Compare the parts of the head's block with those of the trunk's blocks."""
    templates: dict[str, list[Part]] = {}
    for other in _parts_by_block(trunk, range(trunk_count)).values():
        for kind, part in other.items():
            if part not in templates.setdefault(kind, []):
                templates[kind].append(part)
    own = _parts_by_block(head, [block]).get(block, {})
    for kind, known in templates.items():
        yield from _check_part(block, own.get(kind, {}), known)


def _check_part(block: int, part: Part, templates: list[Part]) -> Iterator[Finding]:
    if any(part == each or _fused(part) == _fused(each) for each in templates):
        return
    wanted = min(templates, key=lambda each: len(part.items() ^ each.items()))
    missing = sorted(wanted.keys() - part.keys())
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        shown = ", ".join(f"blk.{block}.{role}" for role in missing[:_SHOWN])
        yield fault(
            "missing-tensor",
            f"blk.{block}.{missing[0]}",
            f"{shown}{more}: missing, but the trunk's blocks have such tensors: the file is "
            "incomplete, take the original",
        )
    for role in sorted(part.keys() & wanted.keys()):
        if part[role] != wanted[role]:
            yield _wrong_shape(f"blk.{block}.{role}", part[role], wanted[role])
    for role in sorted(part.keys() - wanted.keys()):
        yield doubt(
            "unknown-tensor", f"blk.{block}.{role}", "has no counterpart in any block of the trunk"
        )


def _parts_by_block(file: Checkpoint, blocks: Iterable[int]) -> dict[int, dict[str, Part]]:
    """Block -> part -> role -> shape, without the tensors called nextn and scales of matrices."""
    wanted = set(blocks)
    found: dict[int, dict[str, Part]] = {}
    for name, tensor in file.tensors.items():
        block, role = place_of(name)
        if block is None or block not in wanted:
            continue
        if role.startswith("nextn.") or role.endswith(_OF_A_MATRIX) or role in _OPTIONAL_ROLES:
            continue
        parts = found.setdefault(block, {})
        parts.setdefault(_part_of(role), {})[role] = tensor.shape
    return found


def _part_of(role: str) -> str:
    if role.startswith(("attn_norm.", "ffn_norm.", "post_")):
        return "norms"
    if role.startswith(("ffn_", "exp_probs")):
        return "feed-forward"
    return "attention"


def _fused(part: Mapping[str, Shape]) -> Part:
    """The part with matrices joined as converters may join them; the order is not theirs."""
    fused = dict(part)
    for joined, single, axis in (
        ("attn_qkv", ("attn_q", "attn_k", "attn_v"), 0),
        ("ffn_gate_up_exps", ("ffn_gate_exps", "ffn_up_exps"), 1),
    ):
        for ending in (".weight", ".bias"):
            names = [name + ending for name in single]
            if not all(name in fused for name in names):
                continue
            shapes = [fused.pop(name) for name in names]
            rows = sum(shape[axis] if len(shape) > axis else 0 for shape in shapes)
            fused[joined + ending] = (*shapes[0][:axis], rows, *shapes[0][axis + 1 :])
    return fused


def _wrong_shape(name: str, shape: Shape, wanted: Shape) -> Finding:
    sizes = f"has the shape {list(shape)}, but the trunk asks for {list(wanted)}"
    if len(shape) > 1 and shape == tuple(reversed(wanted)):
        return fault("transposed", name, f"{sizes}: it is transposed")
    return fault("shape", name, sizes)


def layout_error(error: FileFormatError) -> Finding:
    """A finding for keys from which no layout can be read."""
    return fault("metadata", error.field, error.reason)
