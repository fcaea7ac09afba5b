"""What a checkpoint says about its tokenizer, against the `gguf` package's reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from nextn.errors import FileFormatError, UnsupportedModelError
from nextn.files import TokenizerData, open_checkpoint
from tests.support.gguf_bytes import (
    ARCHITECTURE,
    F32,
    I32,
    STRING,
    U32,
    GgufBytes,
    array_entry,
    number,
    number_entry,
    string,
    text_entry,
)
from tests.support.tiny_gguf import FAMILIES, write_tiny_model

BPE = text_entry("tokenizer.ggml.model", "gpt2")
LLAMA = text_entry("tokenizer.ggml.model", "llama")
TOKENS = array_entry("tokenizer.ggml.tokens", STRING, [string(text) for text in "abc"])
MERGES = array_entry("tokenizer.ggml.merges", STRING, [string("a b")])
SCORES = array_entry("tokenizer.ggml.scores", F32, [number(F32, -score) for score in range(3)])


def read(path: Path, *entries: bytes) -> TokenizerData:
    path.write_bytes(GgufBytes(metadata=[ARCHITECTURE, *entries]).build())
    return open_checkpoint(path).tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_fields_are_what_another_reader_finds(tmp_path: Path, family: str) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, family)
    data = open_checkpoint(path).tokenizer
    fields = GGUFReader(path).fields

    def expected(key: str) -> object:
        field = fields.get(f"tokenizer.ggml.{key}")
        return None if field is None else field.contents()

    assert data.path == path
    assert data.model == expected("model")
    assert data.pre == expected("pre")
    assert data.tokens == expected("tokens")
    assert data.merges == (expected("merges") or [])
    assert data.token_types is not None
    assert data.token_types.dtype == np.int32
    assert data.token_types.tolist() == expected("token_type")
    if family == "gemma3":
        assert data.scores is not None
        assert data.scores.dtype == np.float32
        assert data.scores.tolist() == expected("scores")
    else:
        assert data.scores is None
    assert data.bos_id == expected("bos_token_id")
    assert data.eos_id == expected("eos_token_id")
    assert data.unknown_id == expected("unknown_token_id")
    assert data.pad_id == expected("padding_token_id")
    assert data.eot_id is None
    assert data.eom_id is None
    assert data.fim_ids == {}
    assert data.add_bos == expected("add_bos_token")
    assert data.add_space_prefix == expected("add_space_prefix")


def test_defaults_of_byte_level_bpe_add_nothing(tmp_path: Path) -> None:
    data = read(tmp_path / "bpe.gguf", BPE, TOKENS, MERGES)
    assert (data.pre, data.scores, data.token_types) == ("default", None, None)
    assert (data.add_bos, data.add_eos, data.add_space_prefix) == (False, False, False)
    assert data.merges == ["a b"]
    assert data.bos_id is None


@pytest.mark.parametrize(("pre", "expected"), [("llama-bpe", True), ("qwen2", False)])
def test_some_pre_tokenizers_begin_with_a_token(tmp_path: Path, pre: str, expected: bool) -> None:
    named = text_entry("tokenizer.ggml.pre", pre)
    assert read(tmp_path / "bpe.gguf", BPE, TOKENS, MERGES, named).add_bos == expected


def test_defaults_of_sentencepiece_add_the_beginning_and_a_space(tmp_path: Path) -> None:
    data = read(tmp_path / "llama.gguf", LLAMA, TOKENS, SCORES)
    assert (data.add_bos, data.add_eos, data.add_space_prefix) == (True, False, True)
    assert data.merges == []


def test_ids_with_names_are_read(tmp_path: Path) -> None:
    names = ["eot", "eom", "fim_pre", "fim_suf", "fim_mid"]
    keys = [number_entry(f"tokenizer.ggml.{name}_token_id", U32, 2) for name in names]
    data = read(tmp_path / "ids.gguf", BPE, TOKENS, MERGES, *keys)
    assert (data.eot_id, data.eom_id) == (2, 2)
    assert data.fim_ids == {"fim_pre": 2, "fim_suf": 2, "fim_mid": 2}


@pytest.mark.parametrize("types", [[1, 2, 3], [4, 5, 6], [0, 1, 1]])
def test_every_token_type_of_the_format_is_taken(tmp_path: Path, types: list[int]) -> None:
    array = array_entry("tokenizer.ggml.token_type", I32, [number(I32, kind) for kind in types])
    data = read(tmp_path / "types.gguf", BPE, TOKENS, MERGES, array)
    assert data.token_types is not None
    assert data.token_types.tolist() == types


def test_byte_level_bpe_without_merges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"tokenizer\.ggml\.merges: is missing"):
        read(tmp_path / "bpe.gguf", BPE, TOKENS)


def test_sentencepiece_without_scores_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"tokenizer\.ggml\.scores: is missing"):
        read(tmp_path / "llama.gguf", LLAMA, TOKENS)


def test_too_few_scores_are_refused(tmp_path: Path) -> None:
    scores = array_entry("tokenizer.ggml.scores", F32, [number(F32, 0)] * 2)
    with pytest.raises(FileFormatError, match=r"scores: has 2 entries, but must have 3"):
        read(tmp_path / "llama.gguf", LLAMA, TOKENS, scores)


def test_an_unknown_tokenizer_model_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'bert' is not supported.*gpt2, llama"):
        read(tmp_path / "bert.gguf", text_entry("tokenizer.ggml.model", "bert"), TOKENS)
