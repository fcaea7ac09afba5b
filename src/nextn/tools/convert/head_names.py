"""How prediction heads are stored on the Hugging Face hub, as data.

There are two ways that nextn understands. Both are one more block of the trunk's family, with a
projection and norms before it (DeepSeek-AI, 2024, section 2.2):

- DeepSeek's and GLM's: the block stands behind the trunk's, as `model.layers.N.*`, with all tensors
  of the head in it.
- Qwen's: the head has a part of its own, `mtp.*`, with the block as `mtp.layers.0.*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

IN_BLOCK: Mapping[str, str] = {
    "eh_proj": "nextn.eh_proj",
    "enorm": "nextn.enorm",
    "hnorm": "nextn.hnorm",
    "shared_head.norm": "nextn.shared_head_norm",
    "shared_head.head": "nextn.shared_head_head",
    "embed_tokens": "nextn.embed_tokens",
}
"""Modules of DeepSeek's way beside those of an ordinary block -> role in the GGUF file."""

OF_ITS_OWN: Mapping[str, str] = {
    "fc": "nextn.eh_proj",
    "pre_fc_norm_embedding": "nextn.enorm",
    "pre_fc_norm_hidden": "nextn.hnorm",
    "norm": "nextn.shared_head_norm",
    "embed_tokens": "nextn.embed_tokens",
    "lm_head": "nextn.shared_head_head",
}
"""Modules of Qwen's way outside of its block -> role."""

REQUIRED = ("nextn.eh_proj", "nextn.enorm", "nextn.hnorm")
"""Roles that every head has."""

_OWN_PART = re.compile(
    r"(?:model\.|language_model\.)*mtp\.(?:layers\.(?P<block>[0-9]+)\.)?(?P<rest>.+)"
)
_LOOKS_LIKE_HEAD = re.compile(
    r"(?:^|\.)(?:mtp|nextn|medusa|eagle|draft|speculat|multi_token|eh_proj|enorm|hnorm|shared_head)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class HeadModule:
    """Where a module of a head goes.

    Attributes:
        block: which block of the head, from 0.
        rest: name of the module in an ordinary block; None if `role` is known.
        role: role in the GGUF file; None if it depends on the family.
    """

    block: int
    rest: str | None
    role: str | None


def in_own_part(module: str) -> HeadModule | None:
    """Place a module that is named in Qwen's way; None for any other name."""
    match = _OWN_PART.fullmatch(module)
    if match is None:
        return None
    if match["block"] is not None:
        return HeadModule(int(match["block"]), match["rest"], None)
    role = OF_ITS_OWN.get(match["rest"])
    return None if role is None else HeadModule(0, None, role)


def head_like(names: Iterable[str]) -> list[str]:
    """Names that look as if they belonged to some prediction head."""
    return [name for name in names if _LOOKS_LIKE_HEAD.search(name)]
