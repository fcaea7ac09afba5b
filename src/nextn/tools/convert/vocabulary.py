"""From tokenizer.json to the `tokenizer.ggml.*` keys of a GGUF file.

There are two kinds: byte-level BPE, whose merges are copied, and BPE over pieces with "▁" for a
space and tokens for bytes, as SentencePiece makes it. Of the latter GGUF files hold a score for
each piece in place of merges: the earlier a piece is merged, the higher its score. What was written
is loaded and compared with the `tokenizers` library on texts of many kinds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, NextnError, SourceError, UnsupportedModelError, shown
from nextn.files import TokenizerData
from nextn.files.gguf.writer import NewValue
from nextn.files.safetensors import Config, SafetensorsFolder
from nextn.files.safetensors.limits import MOST_TOKENIZER_BYTES
from nextn.tools.convert.check_texts import check_texts
from nextn.tools.convert.pre_tokenizer import find_rule_name
from nextn.tools.convert.special_tokens import (
    NORMAL,
    Tokens,
    adds_special,
    read_tokens,
    special_ids,
)

FILE_NAME = "tokenizer.json"

_SPACE = "\u2581"
_SPECIAL_SCORE = -1000.0


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer.

    Attributes:
        tokens: texts of all tokens.
        metadata: the keys for a GGUF file.
    """

    tokens: list[str]
    metadata: dict[str, NewValue]


def read_vocabulary(folder: SafetensorsFolder, rows: int, notes: list[str]) -> Vocabulary:
    """Read the tokenizer of a checkpoint.

    Args:
        folder: the checkpoint.
        rows: of its embedding.
        notes: what the user should know is added to it.

    Raises:
        SourceError: a file that is missing or cannot be read.
        FileFormatError: a file that contradicts itself.
        UnsupportedModelError: a kind of tokenizer that nextn does not know, or one that would give
            other tokens from the GGUF file.
    """
    tokenizer = folder.json(FILE_NAME, most=MOST_TOKENIZER_BYTES)
    if tokenizer is None:
        raise SourceError(
            f"{folder.folder / FILE_NAME}: is missing; nextn reads no other form of a tokenizer"
        )
    _check_model(tokenizer)
    pieces = tokenizer.section("model").boolean("byte_fallback", False)
    tokens = read_tokens(tokenizer, rows, with_bytes=pieces)
    merges = _merges(tokenizer)
    keys: dict[str, NewValue]
    if pieces:
        space_before = _space_before(tokenizer)
        keys = {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": tokens.texts,
            "tokenizer.ggml.scores": _scores(tokens, merges),
            "tokenizer.ggml.token_type": np.array(tokens.types, np.int32),
        }
    else:
        space_before = False
        keys = {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": find_rule_name(tokenizer),
            "tokenizer.ggml.tokens": tokens.texts,
            "tokenizer.ggml.token_type": np.array(tokens.types, np.int32),
            "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges],
        }
    before, behind = adds_special(folder, tokenizer)
    ids = special_ids(folder, tokens, notes)
    keys |= ids
    keys["tokenizer.ggml.add_bos_token"] = before
    keys["tokenizer.ggml.add_eos_token"] = behind
    keys["tokenizer.ggml.add_space_prefix"] = space_before
    template = folder.chat_template
    if template is not None:
        keys["tokenizer.chat_template"] = template
    data = _tokenizer_data(keys, tokens, merges, ids, tokenizer.path)
    _compare(tokenizer.path, data, tokens.ids)
    return Vocabulary(tokens.texts, keys)


def _check_model(tokenizer: Config) -> None:
    model = tokenizer.section("model")
    kind = model.string("type", "BPE")
    if kind != "BPE":
        raise UnsupportedModelError(
            f"{tokenizer.path}: model.type: {shown(kind)} is not supported; nextn converts BPE"
        )
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.value(key):
            raise UnsupportedModelError(f"{tokenizer.path}: model.{key}: is not supported")


def _merges(tokenizer: Config) -> list[tuple[str, str]]:
    """Pairs of parts, best first; files have them as lists, or as text with a space between."""
    model = tokenizer.section("model")
    merges: list[tuple[str, str]] = []
    for index, item in enumerate(model.items("merges")):
        match item:
            case [str(left), str(right)]:
                pass
            case str():
                left, _, right = item.partition(" ")
            case _:
                left = right = ""
        if not left or not right or " " in left or " " in right:
            model.fail(f"merges[{index}]", f"{shown(repr(item))} is not a pair of parts")
        merges.append((left, right))
    if not merges:
        model.fail("merges", "is missing or empty")
    return merges


def _space_before(tokenizer: Config) -> bool:
    """Whether a space is put before a text, after a check that spaces become "▁" as usual."""
    normalizer = tokenizer.section("normalizer")
    steps: Iterable[object] = normalizer.items("normalizers") or [normalizer.values]
    prepends, replaces = False, False
    for step in steps:
        match step:
            case {"type": "Prepend", "prepend": "\u2581"}:
                prepends = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                replaces = True
            case {"type": _}:
                _refuse(tokenizer, "normalizer", step)
    before = tokenizer.section("pre_tokenizer")
    match before.values:
        case {"type": "Metaspace", "replacement": "\u2581"}:
            scheme = before.string("prepend_scheme", "always")
            replaces, prepends = True, prepends or scheme != "never"
        case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}:
            # Nothing is left to split: spaces have been replaced.
            pass
        case {"type": _}:
            _refuse(tokenizer, "pre_tokenizer", before.values)
    if not replaces:
        _refuse(tokenizer, "normalizer", normalizer.values)
    return prepends


def _refuse(tokenizer: Config, key: str, step: object) -> None:
    kind = step.get("type") if isinstance(step, dict) else step
    raise UnsupportedModelError(
        f"{tokenizer.path}: {key}: the type {shown(str(kind))}, or its setting, is not supported "
        "for a tokenizer of pieces"
    )


def _scores(tokens: Tokens, merges: list[tuple[str, str]]) -> NDArray[np.float32]:
    """Scores by which pieces are merged in the order of the merges: float32 [tokens]."""
    order: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        order.setdefault(left + right, rank)
    never = len(merges)
    return np.array(
        [
            -float(order.get(text, never)) if kind == NORMAL else _SPECIAL_SCORE
            for text, kind in zip(tokens.texts, tokens.types, strict=True)
        ],
        np.float32,
    )


def _tokenizer_data(
    keys: dict[str, NewValue],
    tokens: Tokens,
    merges: list[tuple[str, str]],
    ids: dict[str, int],
    path: Path,
) -> TokenizerData:
    """What nextn reads from the GGUF file that the keys are for."""

    def token_id(name: str) -> int | None:
        return ids.get(f"tokenizer.ggml.{name}_token_id")

    scores = keys.get("tokenizer.ggml.scores")
    return TokenizerData(
        model=str(keys["tokenizer.ggml.model"]),
        pre=str(keys["tokenizer.ggml.pre"]),
        tokens=tokens.texts,
        scores=scores.astype(np.float32) if isinstance(scores, np.ndarray) else None,
        token_types=np.array(tokens.types, np.int32),
        merges=[f"{left} {right}" for left, right in merges],
        bos_id=token_id("bos"),
        eos_id=token_id("eos"),
        eot_id=token_id("eot"),
        eom_id=token_id("eom"),
        unknown_id=token_id("unknown"),
        pad_id=token_id("padding"),
        add_bos=False,
        add_eos=False,
        add_space_prefix=bool(keys["tokenizer.ggml.add_space_prefix"]),
        fim_ids={},
        path=path,
    )


def _compare(path: Path, data: TokenizerData, ids: dict[str, int]) -> None:
    """Check that the new tokenizer gives the tokens of the old one.

    Args:
        path: tokenizer.json.
        data: of the new tokenizer.
        ids: of all tokens by their text in the file.
    """
    # Imported here: it takes a while, and most verbs do without.
    from tokenizers import Tokenizer

    from nextn.text.tokenizer import load_tokenizer

    ours = load_tokenizer(data)
    try:
        theirs = Tokenizer.from_file(str(path))
        # The library counts added tokens on from the vocabulary, whatever id the file gives them.
        for text, token in ids.items():
            if theirs.token_to_id(text) != token:
                raise FileFormatError(
                    path,
                    "added_tokens",
                    f"{shown(text)} has the id {token}, but the tokenizers library gives it "
                    f"{theirs.token_to_id(text)}",
                )
        for text in check_texts(data.tokens):
            expected = theirs.encode(text, add_special_tokens=False).ids
            got = ours.encode(text, add_special=False, parse_special=True)
            if got != expected:
                raise UnsupportedModelError(
                    f"{path}: the text {shown(text)} would become other tokens from a GGUF file "
                    f"({shown(str(got))}) than from this file ({shown(str(expected))})"
                )
    except (NextnError, KeyboardInterrupt, SystemExit):
        raise
    # A panic of the library is no `Exception`.
    except BaseException as error:
        raise FileFormatError(
            path, "JSON", f"the tokenizers library refuses it: {shown(str(error))}"
        ) from error
