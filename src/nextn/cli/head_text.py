"""What a prediction head is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nextn.cli.text import bytes_text

if TYPE_CHECKING:
    from nextn.heads import FoundHead


def head_text(head: FoundHead) -> str:
    """Where a head was found, its size and its precision."""
    where = {
        "inside": "inside the model's file",
        "beside": f"beside the model: {head.path.name}",
        "shipped": f"that comes with nextn: {head.path.name}",
        "given": f"{head.path}",
    }[head.origin]
    blocks = f"{head.blocks} block{'' if head.blocks == 1 else 's'}"
    return (
        f"{where} ({blocks}, {bytes_text(head.bytes)}, {', '.join(head.formats)}, drafts "
        f"{head.draft_vocabulary:,} tokens)"
    )
