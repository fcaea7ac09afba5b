"""What is different between two vocabularies, for messages."""

from __future__ import annotations

from typing import Final

from nextn.files import Checkpoint
from nextn.files.gguf import LazyStrings

_TOKENS: Final = "tokenizer.ggml.tokens"


def vocabulary_difference(checkpoint: Checkpoint, other: Checkpoint) -> str:
    """How the tokens of `other` differ from those of `checkpoint`.

    Empty if they do not, or if one of the files does not list them.

    Raises:
        FileFormatError: a token that is not UTF-8.
    """
    ours, theirs = checkpoint.metadata.get(_TOKENS), other.metadata.get(_TOKENS)
    if not isinstance(ours, LazyStrings) or not isinstance(theirs, LazyStrings):
        return ""
    if len(ours) != len(theirs):
        return f"{len(theirs)} tokens instead of {len(ours)}"
    pairs = list(zip(ours.decode(), theirs.decode(), strict=True))
    differ = [n for n, (one, two) in enumerate(pairs) if one != two]
    if not differ:
        return ""
    one, two = pairs[differ[0]]
    return (
        f"{len(differ)} of {len(pairs)} tokens differ, the first is {differ[0]}: {two[:40]!a} "
        f"instead of {one[:40]!a}"
    )
