"""Special tokens: which ids they are, and how they are found in a text.

Roles come from the token types and ids of the file and, because many files leave them out, from
well-known token texts. The roles and texts are those that llama.cpp recognises, so that a model
stops at the same places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nextn.files import TokenizerData

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
"""Token types of `tokenizer.ggml.token_type` that are treated apart; the others are plain text."""

# fmt: off
END_TEXTS = frozenset([
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
])
# fmt: on
"""Texts of tokens that end a turn or a generation."""

_FIM_END_TEXTS: dict[str, tuple[str, ...]] = {
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
"""Marks between files in fill-in-the-middle training: a model that writes one has left its file."""

_ALWAYS_SHOWN = frozenset(["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"])
"""Marks of the harmony format, which are parsed out of the text and so must be part of it."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The roles of the special tokens of one vocabulary, as sets of ids."""

    control: frozenset[int]
    user_defined: frozenset[int]
    end_of_generation: frozenset[int]


def classify(data: TokenizerData, ids: Mapping[str, int]) -> SpecialTokens:
    """Find the special tokens of a vocabulary.

    Args:
        data: the tokenizer of the file.
        ids: token text to id, of all tokens.
    """
    types = np.zeros(0, np.int32) if data.token_types is None else data.token_types
    control = set(np.flatnonzero((types == CONTROL) | (types == UNKNOWN)).tolist())
    user_defined = set(np.flatnonzero(types == USER_DEFINED).tolist())

    ends = {ids[text] for text in END_TEXTS if text in ids}
    for role, texts in _FIM_END_TEXTS.items():
        given = data.fim_ids.get(role)
        found = next((ids[text] for text in texts if text in ids), None) if given is None else given
        if found is not None:
            ends.add(found)
    control |= ends
    user_defined -= ends
    ends |= {i for i in (data.eos_id, data.eot_id, data.eom_id) if i is not None}

    shown = {ids[text] for text in _ALWAYS_SHOWN if text in ids}
    # "<|end|>" ends a message, not the reply, where the vocabulary has marks for the latter.
    if {"<|call|>", "<|return|>"} <= ids.keys() or {"<|calls|>", "<|flush|>"} <= ids.keys():
        shown |= {ids["<|end|>"]} if "<|end|>" in ids else set()
        ends -= shown
    control -= shown
    user_defined |= shown
    # In Gemma 4, "</s>" is an HTML tag.
    if "<|tool_response>" in ids and "</s>" in ids:
        control.discard(ids["</s>"])
        ends.discard(ids["</s>"])
    return SpecialTokens(frozenset(control), frozenset(user_defined), frozenset(ends))


class SpecialSplitter:
    """Finds literal special tokens in a text: the longest first, wherever they are.

    All occurrences of the longest token text (in UTF-8 bytes) are taken first, then those of the
    next in what is left; this is llama.cpp's order, and differs from reading left to right where
    two special tokens overlap.

    Args:
        texts: the text of each special token, by id.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._ids: dict[str, int] = {}
        for token, text in sorted(texts.items()):
            if text:
                self._ids.setdefault(text, token)
        order = sorted(self._ids, key=lambda text: -len(text.encode("utf-8", "replace")))
        self._rank = {text: rank for rank, text in enumerate(order)}
        lengths: dict[str, set[int]] = {}
        for text in self._ids:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: tuple(sorted(sizes)) for first, sizes in lengths.items()}
        first_characters = "".join(map(re.escape, lengths))
        self._starts = re.compile(f"[{first_characters}]") if lengths else None

    def find(self, text: str) -> list[tuple[int, int, int]]:
        """Find all occurrences of token texts, overlapping ones too.

        Returns:
            (rank, start, end) of each, by start; a lower rank is taken first.
        """
        found: list[tuple[int, int, int]] = []
        if self._starts is None:
            return found
        ranks = self._rank
        for match in self._starts.finditer(text):
            start = match.start()
            for length in self._lengths[text[start]]:
                rank = ranks.get(text[start : start + length])
                if rank is not None:
                    found.append((rank, start, start + length))
        return found

    def split(self, text: str) -> list[str | int]:
        """Cut `text` into special tokens (ids) and the text between them (never empty)."""
        found = self.find(text)
        if not found:
            return [text] if text else []
        found.sort()
        taken = bytearray(len(text))
        chosen: list[tuple[int, int]] = []
        for _, start, end in found:
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\x01" * (end - start)
                chosen.append((start, end))
        parts: list[str | int] = []
        position = 0
        for start, end in sorted(chosen):
            if start > position:
                parts.append(text[position:start])
            parts.append(self._ids[text[start:end]])
            position = end
        if position < len(text):
            parts.append(text[position:])
        return parts
