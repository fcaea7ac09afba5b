import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.errors import FileFormatError
from nextn.text.byte_level import BYTE_TO_CHARACTER
from nextn.text.tokenizer import load_tokenizer
from tests.text.tiny import byte_level, data, merge_by_rank

# GPT-2's words of ASCII text, in the syntax of `re`.
ASCII_WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
)
MERGES = ["a b", "ab a", "b a", "Ġ a", "Ġa b", "ab c", "' s", "0 0", "Ġ Ġ", "c c", "cc c", "ba ba"]


@given(st.text(alphabet="abc0 '\n.", max_size=40))
def test_encoding_equals_merging_the_best_pair_first(text: str) -> None:
    tokenizer = load_tokenizer(byte_level(MERGES))
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(MERGES)}
    expected = []
    for word in ASCII_WORDS.findall(text):
        characters = [BYTE_TO_CHARACTER[byte] for byte in word.encode()]
        expected += merge_by_rank(characters, ranks)
    pieces = [
        "".join(BYTE_TO_CHARACTER[byte] for byte in tokenizer.token_bytes(token))
        for token in tokenizer.encode(text)
    ]
    assert pieces == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_decoding_gives_the_text_back(text: str) -> None:
    tokenizer = load_tokenizer(byte_level(MERGES))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_first_of_two_equal_merges_counts() -> None:
    tokenizer = load_tokenizer(byte_level(["a b", "b c", "a b"]))
    assert [tokenizer.token_text(i) for i in tokenizer.encode("abc")] == ["ab", "c"]


def test_a_merge_that_builds_no_token_is_left_out() -> None:
    data = byte_level(["a b", "b c"])
    data.merges[:0] = ["c c", "x", "no such", " "]
    tokenizer = load_tokenizer(data)
    assert [tokenizer.token_text(i) for i in tokenizer.encode("ccab")] == ["c", "c", "ab"]


def test_merges_of_another_vocabulary_are_an_error() -> None:
    data = byte_level()
    data.merges.extend(["no such", "merge here"])
    with pytest.raises(FileFormatError, match=r"tiny.gguf: tokenizer.ggml.merges: no merge"):
        load_tokenizer(data)


def test_of_two_tokens_with_one_text_the_first_is_used_and_both_are_decoded() -> None:
    data = byte_level(["a b"], special={"x": 1})
    data.tokens[-1] = "ab"
    tokenizer = load_tokenizer(data)
    assert tokenizer.encode("ab") == [256]
    assert tokenizer.decode([256, 257]) == "abab"


def test_a_missing_byte_is_dropped_but_keeps_its_neighbours_apart() -> None:
    data = byte_level(["a b"])
    data.tokens[data.tokens.index("c")] = "unused"
    tokenizer = load_tokenizer(data)
    assert [tokenizer.token_text(i) for i in tokenizer.encode("acbab")] == ["a", "b", "ab"]


def test_a_whole_word_beats_its_merges_where_the_family_says_so() -> None:
    merges = ["l o", "h e"]
    for pre, expected in (("gpt-2", ["h", "e", "llo"]), ("llama-bpe", ["hello"])):
        data = byte_level(merges, special={"hello": 1, "llo": 1}, pre=pre)
        data.merges[1:] = ["l lo"]
        tokenizer = load_tokenizer(data)
        assert [tokenizer.token_text(i) for i in tokenizer.encode("hello")] == expected


def test_composed_and_decomposed_letters_are_the_same_where_the_family_normalises() -> None:
    composed, decomposed = "é", "e\u0301"
    qwen = load_tokenizer(byte_level(pre="qwen2"))
    gpt2 = load_tokenizer(byte_level(pre="gpt-2"))
    assert qwen.encode(decomposed) == qwen.encode(composed)
    assert gpt2.encode(decomposed) != gpt2.encode(composed)


def test_a_merge_that_is_longer_than_all_tokens_is_left_out() -> None:
    tokens = [*BYTE_TO_CHARACTER.values(), "ab"]
    tokenizer = load_tokenizer(data(tokens, merges=["Ġ a", "a b"]))
    assert tokenizer.encode(" ab") == [tokens.index("Ġ"), 256]
    with pytest.raises(FileFormatError, match="no merge builds a token"):
        load_tokenizer(data(tokens, merges=["Ġ a"]))
