"""SentencePiece BPE (`tokenizer.ggml.model` "llama"): text to tokens by scored merges.

Spaces are written as U+2581. Starting from single characters, the two neighbours that together are
the token with the highest score are merged (the leftmost pair among equals), until no neighbours
form a token; characters that are no token become one token per UTF-8 byte. This is the order of
SentencePiece's BPE model (Kudo and Richardson, 2018), and gives the ids that llama.cpp gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from nextn.errors import FileFormatError, RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPACE = "\u2581"

MAX_CACHED_WORDS = 100_000
"""Words whose tokens are remembered; text repeats its words, and merging one costs microseconds."""

MAX_CACHED_LENGTH = 32
"""Longest word, in characters, that is worth remembering."""


def byte_token(text: str) -> int | None:
    """Return the byte that a token such as "<0x0A>" stands for, or None."""
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        try:
            return int(text[3:5], 16)
        except ValueError:
            return None
    return None


class SentencePieceEncoder:
    """Encodes text without special tokens.

    Args:
        vocabulary: token text to id, without control tokens, which text must never become.
        scores: score of each id, [tokens]; higher merges first.
        byte_ids: byte value to id, for characters that are no token.
        unknown_id: for characters with neither; None if the file has no such token.
        path: the file, for error messages.

    Raises:
        FileFormatError: a score is not a number.
    """

    def __init__(
        self,
        vocabulary: Mapping[str, int],
        scores: NDArray[np.float32],
        byte_ids: Mapping[int, int],
        unknown_id: int | None,
        path: object,
    ) -> None:
        if np.isnan(scores).any():
            raise FileFormatError(
                path, "tokenizer.ggml.scores", "holds a value that is not a number"
            )
        self._vocabulary = vocabulary
        self._scores: list[float] = scores.tolist()
        self._byte_ids = byte_ids
        self._unknown_id = unknown_id
        self._cache: dict[str, tuple[int, ...]] = {}
        # No merge crosses a boundary "x▁" that is inside no token, so that cutting there is exact.
        # The separator is a lone surrogate, which no decoded token holds.
        inner = re.findall(f"([^{SPACE}\ud800]){SPACE}", "\ud800".join(vocabulary))
        blocked = "".join(map(re.escape, {SPACE, *inner}))
        self._boundary = re.compile(f"(?<=[^{blocked}])(?={SPACE})")

    def encode(self, text: str) -> list[int]:
        """Return the token ids of `text`, in which spaces are still spaces.

        Raises:
            RequestError: a character is no token, and the file has neither byte tokens nor an
                unknown token.
        """
        ids: list[int] = []
        cache = self._cache
        for word in self._boundary.split(text.replace(" ", SPACE)):
            known = cache.get(word)
            if known is None:
                known = self._encode_word(word)
                if len(word) <= MAX_CACHED_LENGTH:
                    if len(cache) >= MAX_CACHED_WORDS:
                        cache.clear()
                    cache[word] = known
            ids += known
        return ids

    def _encode_word(self, word: str) -> tuple[int, ...]:
        vocabulary, scores = self._vocabulary, self._scores
        # A symbol is the text from its start to the next symbol's start; "" marks one merged away.
        symbols = list(word)
        count = len(symbols)
        previous = list(range(-1, count - 1))
        following = list(range(1, count + 1))
        queue: list[tuple[float, int, int, str]] = []
        for left in range(count - 1):
            merged = symbols[left] + symbols[left + 1]
            token = vocabulary.get(merged)
            if token is not None:
                queue.append((-scores[token], left, left + 1, merged))
        heapify(queue)
        while queue:
            _, left, right, merged = heappop(queue)
            # An entry is stale once either side has gone or grown; symbols never shrink.
            first, second = symbols[left], symbols[right]
            if not first or not second or len(first) + len(second) != len(merged):
                continue
            symbols[left] = merged
            symbols[right] = ""
            after = following[left] = following[right]
            if after < count:
                previous[after] = left
                candidate = merged + symbols[after]
                token = vocabulary.get(candidate)
                if token is not None:
                    heappush(queue, (-scores[token], left, after, candidate))
            before = previous[left]
            if before >= 0:
                candidate = symbols[before] + merged
                token = vocabulary.get(candidate)
                if token is not None:
                    heappush(queue, (-scores[token], before, left, candidate))
        ids: list[int] = []
        for symbol in symbols:
            if symbol:
                token = vocabulary.get(symbol)
                ids += self._fallback(symbol) if token is None else (token,)
        return tuple(ids)

    def _fallback(self, character: str) -> list[int]:
        ids = [self._byte_ids.get(byte, self._unknown_id) for byte in character.encode("utf-8")]
        known = [token for token in ids if token is not None]
        if len(known) < len(ids):
            raise RequestError(
                f"the model's vocabulary has no token for the character {character!r}; remove it"
            )
        return known
