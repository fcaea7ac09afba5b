"""llguidance sees the tokens that our tokenizer decodes."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np
import pytest

import nextn
from nextn.files import open_checkpoint
from nextn.grammar import Specification
from nextn.grammar.compiler import GrammarCompiler
from nextn.grammar.vocabulary import Vocabulary
from nextn.text.tokenizer import Tokenizer, load_tokenizer


def allowed_ids(compiler: GrammarCompiler, regex: str, size: int) -> set[int]:
    mask = compiler.compile(Specification("regex", regex, "regex")).start().mask()
    assert mask is not None
    return set(np.flatnonzero(np.unpackbits(mask, bitorder="little")[:size]).tolist())


def check(tokenizer: Tokenizer) -> None:
    vocabulary = Vocabulary(tokenizer, tokenizer.vocab_size)
    seen = vocabulary.ll_tokenizer
    assert seen.vocab_size == tokenizer.vocab_size
    special = tokenizer.special | tokenizer.end_of_generation
    for token in range(tokenizer.vocab_size):
        if tokenizer.token_bytes(token)[:1] == b"\xff":
            continue  # begins no text; llguidance marks special tokens with this byte
        assert seen.is_special_token(token) == (token in special)
        if token not in special:
            text = tokenizer.decode([token], continues=True)
            assert seen.decode_bytes([token]).decode("utf-8", "replace") == text
    # Any bytes: all tokens are allowed but those that are no text. Equal tokens are all allowed.
    size = tokenizer.vocab_size
    compiler = GrammarCompiler(tokenizer, size)
    text = {token for token in range(size) if token not in special and tokenizer.token_bytes(token)}
    any_text = {token for token in text if is_text(tokenizer.token_bytes(token))}
    assert allowed_ids(compiler, r"(?s:.*)", size) == any_text | tokenizer.end_of_generation
    assert allowed_ids(compiler, r"(?s:.+)", size) == any_text


def is_text(data: bytes) -> bool:
    """Whether it may begin a UTF-8 text: whole characters, and perhaps the start of one."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("kind", ["bpe", "spm"])
def test_every_token_is_seen_as_it_is_decoded(models: dict[str, nextn.Model], kind: str) -> None:
    check(models[kind].tokenizer)


@pytest.mark.models
def test_every_token_of_a_real_byte_level_model(smollm2_path: Path) -> None:
    with open_checkpoint(smollm2_path) as checkpoint:
        check(load_tokenizer(checkpoint.tokenizer))


@pytest.mark.models
def test_every_token_of_a_real_sentencepiece_model(gemma3_path: Path) -> None:
    with open_checkpoint(gemma3_path) as checkpoint:
        check(load_tokenizer(checkpoint.tokenizer))


@pytest.mark.parametrize("kind", ["bpe", "spm"])
def test_forced_text_is_encoded_as_it_continues_other_text(
    models: dict[str, nextn.Model], kind: str
) -> None:
    tokenizer = models[kind].tokenizer
    compiler = models[kind].grammars
    text = "the other thing and the string"
    constraint = compiler.compile(Specification("regex", text + "!*", "regex")).start()
    forced = constraint.forced()
    assert forced
    encoded = tokenizer.encode(text, add_special=False, continues=True)
    assert forced == encoded[: len(forced)]
    assert len(forced) >= len(encoded) - 4


def test_a_vocabulary_that_is_smaller_than_the_logits_allows_no_further_id(
    model: nextn.Model,
) -> None:
    size = model.tokenizer.vocab_size
    compiler = GrammarCompiler(model.tokenizer, size + 37)
    assert max(allowed_ids(compiler, r"(?s:.*)", size + 37)) < size
