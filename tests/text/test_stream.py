import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.errors import RequestError
from nextn.text.stream import StreamDetokenizer
from nextn.text.tokenizer import Tokenizer, load_tokenizer
from tests.text.tiny import CONTROL, USER_DEFINED, byte_level, sentencepiece

BYTE_LEVEL = load_tokenizer(
    byte_level(["Ã ©", "Ġ a"], special={"<|end|>": CONTROL, "<think>": USER_DEFINED})
)
SENTENCEPIECE = load_tokenizer(
    sentencepiece({"▁a": -1.0, "▁": -2.0, "é": -1.0}, {"<s>": CONTROL}, add_space_prefix=True)
)


def stream(tokenizer: Tokenizer, ids: list[int], **options: bool) -> list[str]:
    detokenizer = StreamDetokenizer(tokenizer, **options)
    return [*map(detokenizer.push, ids), detokenizer.finish()]


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, SENTENCEPIECE], ids=["byte level", "sp"])
@given(st.data(), st.booleans(), st.booleans())
def test_the_pieces_joined_are_the_decoded_text(
    tokenizer: Tokenizer, draw: st.DataObject, skip_special: bool, continues: bool
) -> None:
    ids = draw.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    options = {"skip_special": skip_special, "continues": continues}
    assert "".join(stream(tokenizer, ids, **options)) == tokenizer.decode(ids, **options)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, SENTENCEPIECE], ids=["byte level", "sp"])
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_whole_text_never_shows_a_broken_character(tokenizer: Tokenizer, text: str) -> None:
    text = text.replace("\ufffd", "").replace("▁", "")
    pieces = stream(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_a_character_comes_out_with_its_last_byte() -> None:
    ids = BYTE_LEVEL.encode("😀")
    assert stream(BYTE_LEVEL, ids) == ["", "", "", "😀", ""]


def test_broken_bytes_are_replaced_as_soon_as_they_are_certain() -> None:
    lead, letter = BYTE_LEVEL.encode("ã")[0], BYTE_LEVEL.encode("x")[0]
    assert stream(BYTE_LEVEL, [lead, letter, lead]) == ["", "\ufffdx", "", "\ufffd"]


def test_special_tokens_are_shown_or_skipped() -> None:
    ids = [*BYTE_LEVEL.encode("x"), 258, 259]
    assert stream(BYTE_LEVEL, ids) == ["x", "<|end|>", "<think>", ""]
    assert stream(BYTE_LEVEL, ids, skip_special=True) == ["x", "", "<think>", ""]


def test_the_first_space_is_dropped_at_the_start_of_a_text_only() -> None:
    assert stream(SENTENCEPIECE, [257, 257]) == ["a", " a", ""]
    assert stream(SENTENCEPIECE, [260, 257]) == ["<s>", "a", ""]
    assert stream(SENTENCEPIECE, [257, 257], continues=True) == [" a", " a", ""]


def test_an_id_outside_the_vocabulary_is_an_error() -> None:
    with pytest.raises(RequestError):
        StreamDetokenizer(BYTE_LEVEL).push(10_000)
