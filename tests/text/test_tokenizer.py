import pytest

from nextn.errors import RequestError, UnsupportedModelError
from nextn.text.tokenizer import load_tokenizer
from tests.text.tiny import CONTROL, USER_DEFINED, byte_level, data, sentencepiece


def test_an_unknown_kind_of_tokenizer_is_named() -> None:
    with pytest.raises(UnsupportedModelError, match=r"tiny.gguf: tokenizer.ggml.model: .*'bert'"):
        load_tokenizer(data(["a"], model="bert"))


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    tokenizer = load_tokenizer(byte_level())
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert tokenizer.decode(tokenizer.encode("\ud83d\ude00")) == "😀"


@pytest.mark.parametrize("token", [-1, 256, 10**9])
def test_an_id_outside_the_vocabulary_is_an_error(token: int) -> None:
    tokenizer = load_tokenizer(byte_level())
    with pytest.raises(RequestError, match="outside the vocabulary; use 0 to 255"):
        tokenizer.decode([token])


def test_a_token_has_bytes_and_text() -> None:
    tokenizer = load_tokenizer(byte_level(["Ġ a", "Ã ©"]))
    assert tokenizer.vocab_size == 258
    assert (tokenizer.token_bytes(256), tokenizer.token_text(256)) == (b" a", " a")
    assert (tokenizer.token_bytes(257), tokenizer.token_text(257)) == (b"\xc3\xa9", "é")
    first_half = tokenizer.encode("ã")[0]
    assert (tokenizer.token_bytes(first_half), tokenizer.token_text(first_half)) == (
        b"\xc3",
        "\ufffd",
    )


def test_sentencepiece_tokens_hold_spaces_and_bytes() -> None:
    tokenizer = load_tokenizer(sentencepiece({"▁a": -1.0}, special={"▁▁": USER_DEFINED}))
    assert tokenizer.token_bytes(257) == b" a"
    assert tokenizer.token_bytes(1 + 0x0A) == b"\n"
    assert tokenizer.token_bytes(258) == "▁▁".encode()


def test_a_byte_level_token_outside_the_alphabet_is_its_own_text() -> None:
    tokenizer = load_tokenizer(byte_level(special={"hello wörld": 1}))
    assert tokenizer.token_text(256) == "hello w\ufffdrld"
    assert tokenizer.token_bytes(256) == b"hello w\xf6rld"


def test_the_space_before_a_text_is_put_on_and_taken_off() -> None:
    tokenizer = load_tokenizer(
        sentencepiece(
            {"▁a": -1.0, "▁": -2.0, "a": -3.0}, special={"<s>": CONTROL}, add_space_prefix=True
        )
    )
    ids = tokenizer.encode("a a")
    assert ids == [257, 257]
    assert tokenizer.decode(ids) == "a a"
    assert tokenizer.decode(ids, continues=True) == " a a"
    # After a special token a text begins anew.
    assert tokenizer.encode("a<s>a", parse_special=True) == [257, 260, 257]
    assert tokenizer.decode([260, 257]) == "<s>a"


def test_no_text_has_no_tokens() -> None:
    assert load_tokenizer(sentencepiece({}, add_space_prefix=True)).encode("") == []
    assert load_tokenizer(byte_level()).encode("") == []
