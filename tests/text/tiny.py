"""Tiny tokenizers, and slow obvious ways to do what they do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from nextn.files import TokenizerData
from nextn.text.byte_level import BYTE_TO_CHARACTER

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def data(tokens: list[str], **fields: object) -> TokenizerData:
    values = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "scores": None,
        "token_types": None,
        "merges": [],
        "bos_id": None,
        "eos_id": None,
        "eot_id": None,
        "eom_id": None,
        "unknown_id": None,
        "pad_id": None,
        "add_bos": False,
        "add_eos": False,
        "add_space_prefix": False,
        "fim_ids": {},
        "path": Path("tiny.gguf"),
        **fields,
    }
    return TokenizerData(**values)


def byte_level(
    merges: Sequence[str] = (), special: dict[str, int] | None = None, **fields: object
) -> TokenizerData:
    """A byte-level vocabulary: 256 bytes, the results of the merges, then the special tokens."""
    results = dict.fromkeys("".join(merge.split(" ", 1)) for merge in merges)
    tokens = [*BYTE_TO_CHARACTER.values(), *results, *(special or {})]
    types = [NORMAL] * (256 + len(results)) + list((special or {}).values())
    return data(
        tokens,
        merges=list(merges),
        token_types=np.array(types, np.int32),
        **{"pre": "gpt-2", **fields},
    )


def sentencepiece(
    words: dict[str, float], special: dict[str, int] | None = None, **fields: object
) -> TokenizerData:
    """<unk>, 256 byte tokens, the words with their scores, then the special tokens."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words, *(special or {})]
    types = [UNKNOWN] + [BYTE] * 256 + [NORMAL] * len(words) + list((special or {}).values())
    scores = [0.0] * 257 + list(words.values()) + [0.0] * len(special or {})
    defaults: dict[str, object] = {"pre": "default", "unknown_id": 0}
    return data(
        tokens,
        model="llama",
        token_types=np.array(types, np.int32),
        scores=np.array(scores, np.float32),
        **{**defaults, **fields},
    )


def merge_by_rank(symbols: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """BPE by its definition: apply the best merge, leftmost first, until none applies."""
    while True:
        pairs = [
            (ranks[pair], index) for index, pair in enumerate(pairwise(symbols)) if pair in ranks
        ]
        if not pairs:
            return symbols
        _, at = min(pairs)
        symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]


def merge_by_score(symbols: list[str], scores: dict[str, float]) -> list[str]:
    """SentencePiece BPE by its definition: make the best-scored token, leftmost first."""
    while True:
        pairs = [
            (-scores[left + right], index)
            for index, (left, right) in enumerate(pairwise(symbols))
            if left + right in scores
        ]
        if not pairs:
            return symbols
        _, at = min(pairs)
        symbols = [*symbols[:at], symbols[at] + symbols[at + 1], *symbols[at + 2 :]]
