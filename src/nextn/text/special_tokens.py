"""Special tokens: which ids they are, and how they are found in a text.

Roles come from the token types and ids of the file and, because many files leave them out, from
well-known token texts. The roles and texts are those that llama.cpp recognises, so that a model
stops at the same places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nextn.errors import FileFormatError

if TYPE_CHECKING:
    from nextn.files import TokenizerData

UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
"""Token types of `tokenizer.ggml.token_type` that are treated apart; the others are plain text."""

MAX_SPECIAL = 512
"""Longest special token, in characters. Each length is looked for at each place of a text."""

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

    Raises:
        FileFormatError: a special token that is too long to be one.
    """
    types = np.zeros(0, np.int32) if data.token_types is None else data.token_types
    for token in np.flatnonzero(np.isin(types, [CONTROL, UNKNOWN, USER_DEFINED])).tolist():
        if len(data.tokens[token]) > MAX_SPECIAL:
            raise FileFormatError(
                data.path,
                f"tokenizer.ggml.tokens[{token}]",
                f"a special token of {len(data.tokens[token])} characters; at most {MAX_SPECIAL} "
                "are allowed",
            )
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
        # By first character: the lengths of tokens, and how many tokens have each.
        self._lengths: dict[str, Counter[int]] = {}
        for text in self._ids:
            self._lengths.setdefault(text[0], Counter())[len(text)] += 1
        first_characters = "".join(map(re.escape, self._lengths))
        self._starts = re.compile(f"[{first_characters}]") if self._lengths else None

    def starts(self, text: str, *, shortest: int = 1) -> list[int]:
        """Find where the text of a token of at least `shortest` characters begins, in order."""
        if self._starts is None:
            return []
        ids, found = self._ids, []
        for match in self._starts.finditer(text):
            start = match.start()
            for length in self._lengths[text[start]]:
                if length >= shortest and text[start : start + length] in ids:
                    found.append(start)
                    break
        return found

    def split(self, text: str) -> list[str | int]:
        """Cut `text` into special tokens (ids) and the text between them (never empty)."""
        parts: list[str | int] = [text] if text else []
        for token_text in self._present(text):
            cut: list[str | int] = []
            for part in parts:
                if isinstance(part, int) or token_text not in part:
                    cut.append(part)
                    continue
                for index, piece in enumerate(part.split(token_text)):
                    if index:
                        cut.append(self._ids[token_text])
                    if piece:
                        cut.append(piece)
            parts = cut
        return parts

    def _present(self, text: str) -> list[str]:
        """The texts of tokens that occur anywhere in `text`, the best rank first.

        Only these are kept, not the places where they are: a file may have a token for each number
        of line feeds, and then a text of line feeds has many times its length of places.
        """
        if self._starts is None:
            return []
        ids, found = self._ids, set()
        missing: dict[str, Counter[int]] = {}
        for match in self._starts.finditer(text):
            start = match.start()
            first = text[start]
            lengths = missing.get(first)
            if lengths is None:
                lengths = missing[first] = self._lengths[first].copy()
            for length in list(lengths):
                candidate = text[start : start + length]
                if candidate in ids and candidate not in found:
                    found.add(candidate)
                    lengths[length] -= 1
                    if not lengths[length]:
                        del lengths[length]  # all tokens of this kind were seen
        return sorted(found, key=self._rank.__getitem__)
