import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import RequestError, UnsupportedModelError
from nextn.text.pretokenizers import PRE_TOKENIZERS, find_pre_tokenizer
from nextn.text.tokenizer import load_tokenizer
from tests.text.tiny import byte_level, data

# Token ids by llama.cpp with a vocabulary whose tokens cross all word boundaries; see make_data.py.
SAMPLE: dict[str, Any] = json.loads((Path(__file__).parent / "data/pretokenizers.json").read_text())


@pytest.mark.parametrize("name", SAMPLE["ids"])
def test_words_are_cut_where_llama_cpp_cuts_them(name: str) -> None:
    types = np.array([1] * (len(SAMPLE["tokens"]) - 2) + [3, 3], np.int32)
    tokenizer = load_tokenizer(
        data(SAMPLE["tokens"], merges=SAMPLE["merges"], token_types=types, pre=name)
    )
    for text, expected in zip(SAMPLE["texts"], SAMPLE["ids"][name], strict=True):
        assert tokenizer.encode(text) == expected, text


def test_the_sample_tells_the_rules_apart() -> None:
    different = {json.dumps(ids) for ids in SAMPLE["ids"].values()}
    assert len(different) >= 13


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_rule_keeps_all_of_the_text(name: str) -> None:
    text = "Hello, wörld's 1234 x\r\n\n  \t 你好ABCdef ก้ 😀 e\u0301\u0301 ǅ ١٢"
    tokenizer = load_tokenizer(byte_level(["a b"], pre=name))
    decoded = tokenizer.decode(tokenizer.encode(text))
    assert decoded in (text, text.replace("e\u0301", "é"))


def test_capitals_begin_a_word_beyond_ascii_too() -> None:
    tokenizer = load_tokenizer(byte_level(["Ã Ł", "Ã ī", "ÃŁ Ãī"], pre="gpt-4o"))
    assert [tokenizer.token_text(i) for i in tokenizer.encode("ßÉ")] == ["ß", "É"]


def test_an_old_file_without_a_name_has_the_default_rule() -> None:
    assert find_pre_tokenizer("", "tiny.gguf") is PRE_TOKENIZERS["default"]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnsupportedModelError,
        match=r"^tiny.gguf: tokenizer.ggml.pre: .*'klingon'; known are .*llama-bpe.*qwen2",
    ):
        load_tokenizer(byte_level(["a b"], pre="klingon"))


def test_a_number_without_end_is_refused_where_it_would_take_forever() -> None:
    tokenizer = load_tokenizer(byte_level(pre="tiny_aya"))
    assert len(tokenizer.encode("1" * 3000 + " " + "2" * 3000)) == 6001
    with pytest.raises(RequestError, match="more than 3000 digits"):
        tokenizer.encode("a " + "1" * 3001)
    assert len(load_tokenizer(byte_level(pre="qwen2")).encode("1" * 3001)) == 3001
