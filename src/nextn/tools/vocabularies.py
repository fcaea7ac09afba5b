"""Whether two files have the same vocabulary, and what is different."""

from __future__ import annotations

from typing import Final

from nextn.files import Checkpoint
from nextn.files.gguf import LazyStrings
from nextn.models.nextn_head import VOCAB_HASH_KEY, vocabulary_hash

_TOKENS: Final = "tokenizer.ggml.tokens"


def same_vocabulary(trunk: Checkpoint, head: Checkpoint) -> bool | None:
    """Whether a head is for the trunk's vocabulary, by what its file lists and declares.

    None if the files do not say it.

    Raises:
        FileFormatError: a token that is not UTF-8.
    """
    ours, declared = vocabulary_hash(trunk), head.metadata.get(VOCAB_HASH_KEY)
    theirs = {vocabulary_hash(head)} - {None}
    if isinstance(declared, str) and declared:
        theirs.add(declared)
    return theirs == {ours} if ours is not None and theirs else None


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
