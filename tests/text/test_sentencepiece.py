import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.errors import FileFormatError, RequestError
from nextn.text.tokenizer import load_tokenizer
from tests.text.tiny import data, merge_by_score, sentencepiece

ALPHABET = "ab▁c>"


@st.composite
def vocabularies(draw: st.DrawFn) -> dict[str, float]:
    words = draw(st.lists(st.text(ALPHABET, min_size=1, max_size=5), max_size=25, unique=True))
    # Few different scores, so that there are ties.
    return {word: -float(draw(st.integers(0, 6))) for word in words}


@given(vocabularies(), st.text("ab c>é", max_size=40), st.booleans())
def test_encoding_equals_making_the_best_token_first(
    words: dict[str, float], text: str, prefix: bool
) -> None:
    tokenizer = load_tokenizer(sentencepiece(words, add_space_prefix=prefix))
    written = (" " + text if prefix and text else text).replace(" ", "▁")
    expected: list[int] = []
    for symbol in merge_by_score(list(written), words):
        if symbol in words:
            expected.append(257 + list(words).index(symbol))
        else:
            expected += [1 + byte for byte in symbol.encode()]
    assert tokenizer.encode(text) == expected


@given(vocabularies(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_decoding_gives_the_text_back(words: dict[str, float], text: str) -> None:
    tokenizer = load_tokenizer(sentencepiece({**words, "▁": -9.0}, add_space_prefix=True))
    # U+2581 itself cannot be told from a space.
    assert tokenizer.decode(tokenizer.encode(text)) == text.replace("▁", " ")


def test_equal_scores_merge_from_the_left() -> None:
    tokenizer = load_tokenizer(sentencepiece({"aa": -1.0}))
    assert [tokenizer.token_text(i) for i in tokenizer.encode("aaa")] == ["aa", "a"]


def test_text_never_becomes_a_control_token() -> None:
    words = {"<": -1.0, "s": -1.0, ">": -1.0, "<s": -2.0}
    tokenizer = load_tokenizer(sentencepiece(words, special={"<s>": 3}))
    assert [tokenizer.token_text(i) for i in tokenizer.encode("<s>")] == ["<s", ">"]
    assert tokenizer.encode("<s>", parse_special=True) == [257 + 4]


def test_text_that_looks_like_a_byte_token_is_text() -> None:
    words = {"<0x": -1.0, "<0": -1.0, "41>": -2.0, "4": 0.0, "1>": 0.0}
    tokenizer = load_tokenizer(sentencepiece(words))
    assert tokenizer.decode(tokenizer.encode("<0x41>")) == "<0x41>"


def test_long_text_takes_little_more_than_proportional_time() -> None:
    tokenizer = load_tokenizer(sentencepiece({"aa": -1.0, "aaaa": -2.0, "a": -3.0}))
    assert len(tokenizer.encode("a" * 100_000)) == 25_000


def test_a_character_without_any_token_names_itself() -> None:
    tokenizer = load_tokenizer(
        data(["a"], model="llama", scores=np.zeros(1, np.float32), unknown_id=None)
    )
    assert tokenizer.encode("a") == [0]
    with pytest.raises(RequestError, match="'é'"):
        tokenizer.encode("aé")


def test_a_character_without_byte_tokens_is_unknown() -> None:
    tokenizer = load_tokenizer(
        data(["<unk>", "a"], model="llama", scores=np.zeros(2, np.float32), unknown_id=0)
    )
    assert tokenizer.encode("ab") == [1, 0]


def test_a_score_that_is_no_number_is_an_error() -> None:
    with pytest.raises(FileFormatError, match=r"tokenizer\.ggml\.scores"):
        load_tokenizer(sentencepiece({"a": float("nan")}))
