"""What a prediction head is, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nextn.cli.text import bytes_text

if TYPE_CHECKING:
    from nextn.heads import FoundHead, HeadOrigin
    from nextn.speculate import Useless


def place_text(origin: HeadOrigin, path: str) -> str:
    """Where a head is.

    Args:
        origin: where it was found.
        path: its file, as it is to be shown.
    """
    return {
        "inside": "inside the model's file",
        "beside": f"beside the model: {path}",
        "shipped": f"that comes with nextn: {path}",
        "given": path,
    }[origin]


def owner_text(part: str, own: bool) -> str:
    """Whose part a head uses."""
    owner = "its own" if own else "the trunk's"
    return f"{owner} {part}"


def head_text(head: FoundHead) -> str:
    """Where a head was found, its size and its precision."""
    where = place_text(head.origin, str(head.path) if head.origin == "given" else head.path.name)
    blocks = f"{head.blocks} block{'' if head.blocks == 1 else 's'}"
    return (
        f"{where} ({blocks}, {bytes_text(head.bytes)}, {', '.join(head.formats)}, drafts "
        f"{head.draft_vocabulary:,} tokens)"
    )


def useless_text(useless: Useless) -> str:
    """What to say when a drafter was given up."""
    return f"{useless}; no more drafts of it are made, and --head none leaves it out from the start"
