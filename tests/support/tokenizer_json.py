"""The tokenizers of `tiny_tokenizers` as the Hugging Face hub has them: tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.tiny_tokenizers import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}


def split(expression: str) -> dict[str, Any]:
    """The pre-tokenizer of newer models: one expression, then bytes."""
    pattern = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated"}
    return {
        "type": "Sequence",
        "pretokenizers": [{**pattern, "invert": False}, {**_BYTES, "use_regex": False}],
    }


# `tokenizer.ggml.pre` -> normalizer, pre-tokenizer, further settings of the model, as published.
PRE_TOKENIZERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "smollm": (
        None,
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {**_BYTES, "use_regex": True},
            ],
        },
        {},
    ),
    "qwen2": ({"type": "NFC"}, split(QWEN2_SPLIT), {"ignore_merges": False}),
    "llama-bpe": (None, split(LLAMA3_SPLIT), {"ignore_merges": True}),
    "gpt-2": (None, {**_BYTES, "use_regex": True}, {}),
}


def tokenizer_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The file for the metadata of a GGUF tokenizer. Tokens that only fill up are left out.

    Gemma's has its runs of spaces and line feeds both as added tokens and as merges.
    """
    tokens = metadata["tokenizer.ggml.tokens"]
    types = metadata["tokenizer.ggml.token_type"]
    of_bytes = metadata["tokenizer.ggml.model"] == "gpt2"
    if not of_bytes:
        tokens = [
            text.replace(" ", "▁") if kind == USER_DEFINED else text
            for text, kind in zip(tokens, types, strict=True)
        ]
    vocabulary = {
        text: token
        for token, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind != UNUSED
    }
    added = [
        {
            "id": token,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != USER_DEFINED,
        }
        for token, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (CONTROL, USER_DEFINED, UNKNOWN)
    ]
    assert set(types) <= {NORMAL, BYTE, UNKNOWN, CONTROL, USER_DEFINED, UNUSED}
    if of_bytes:
        normalizer, before, further = PRE_TOKENIZERS[metadata["tokenizer.ggml.pre"]]
        merges = [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]]
        model = {"type": "BPE", "vocab": vocabulary, "merges": merges, **further}
    else:
        normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        before = {
            "type": "Split",
            "pattern": {"String": " "},
            "behavior": "MergedWithPrevious",
            "invert": False,
        }
        model = {
            "type": "BPE",
            "unk_token": tokens[metadata["tokenizer.ggml.unknown_token_id"]],
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(vocabulary, metadata["tokenizer.ggml.scores"], types),
        }
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": None,
        "model": model,
    }


def tokenizer_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer_config.json for the same."""
    tokens = metadata["tokenizer.ggml.tokens"]
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    config: dict[str, Any] = {
        f"{name}_token": tokens[metadata[f"tokenizer.ggml.{key}_token_id"]]
        for name, key in names.items()
    }
    config["add_bos_token"] = metadata["tokenizer.ggml.add_bos_token"]
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    return config


def _merges(
    vocabulary: Mapping[str, int], scores: list[float], types: list[int]
) -> list[list[str]]:
    """Every way to make a piece of two others, the pieces with the highest scores first."""
    merges: list[tuple[float, str, str]] = []
    for text, token in vocabulary.items():
        is_run = types[token] == USER_DEFINED and text == text[0] * len(text)
        if types[token] == NORMAL or is_run:
            for at in range(1, len(text)):
                left, right = text[:at], text[at:]
                if left in vocabulary and right in vocabulary:
                    merges.append((-1.0 if is_run else -scores[token], left, right))
    return [[left, right] for _, left, right in sorted(merges)]
