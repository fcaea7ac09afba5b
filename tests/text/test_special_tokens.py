import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.errors import FileFormatError
from nextn.text.special_tokens import MAX_SPECIAL, SpecialSplitter
from nextn.text.tokenizer import load_tokenizer
from tests.text.tiny import CONTROL, NORMAL, USER_DEFINED, byte_level


def split_by_search(text: str, texts: dict[int, str]) -> list[str | int]:
    """Search the whole text for the longest special token, then what is left for the next."""
    parts: list[str | int] = [text]
    for token, special in sorted(texts.items(), key=lambda item: (-len(item[1].encode()), item[0])):
        for index in range(len(parts) - 1, -1, -1):
            part = parts[index]
            if isinstance(part, str):
                pieces: list[str | int] = []
                for number, piece in enumerate(part.split(special)):
                    pieces += [token, piece] if number else [piece]
                parts[index : index + 1] = pieces
    return [part for part in parts if part != ""]


@given(
    st.lists(st.text("ab<é", min_size=1, max_size=4), max_size=6, unique=True),
    st.text("ab<éc", max_size=40),
)
def test_the_longest_special_tokens_are_found_first(specials: list[str], text: str) -> None:
    texts = dict(enumerate(specials))
    assert SpecialSplitter(texts).split(text) == split_by_search(text, texts)


@pytest.fixture
def specials() -> dict[str, int]:
    return {"<|im_end|>": CONTROL, "<think>": USER_DEFINED, "<|bos|>": CONTROL}


def test_control_tokens_are_text_unless_asked_for(specials: dict[str, int]) -> None:
    tokenizer = load_tokenizer(byte_level(special=specials))
    text = "a<|im_end|>b"
    assert 256 not in tokenizer.encode(text)
    assert tokenizer.encode(text, parse_special=True) == [
        *tokenizer.encode("a"),
        256,
        *tokenizer.encode("b"),
    ]


def test_user_defined_tokens_are_always_found(specials: dict[str, int]) -> None:
    tokenizer = load_tokenizer(byte_level(special=specials))
    assert tokenizer.encode("<think>") == [257]


def test_begin_and_end_tokens_follow_the_file(specials: dict[str, int]) -> None:
    tokenizer = load_tokenizer(
        byte_level(special=specials, bos_id=258, eos_id=256, add_bos=True, add_eos=True)
    )
    letter = tokenizer.encode("a", add_special=False)
    assert tokenizer.encode("a") == [258, *letter, 256]
    assert tokenizer.encode("") == [258, 256]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (258, 256)


def test_control_tokens_are_special_and_can_be_skipped(specials: dict[str, int]) -> None:
    tokenizer = load_tokenizer(byte_level(special=specials))
    assert tokenizer.special == {256, 258}
    assert tokenizer.decode([256, 257, 258]) == "<|im_end|><think><|bos|>"
    assert tokenizer.decode([256, 257, 258], skip_special=True) == "<think>"


def test_the_end_of_generation_comes_from_ids_and_well_known_texts() -> None:
    special = {"<stop>": CONTROL, "<|im_end|>": NORMAL, "<turn_end>": CONTROL, "<rep>": CONTROL}
    tokenizer = load_tokenizer(
        byte_level(special=special, eos_id=256, eot_id=258, fim_ids={"fim_rep": 259, "fim_pre": 0})
    )
    assert tokenizer.end_of_generation == {256, 257, 258, 259}
    # A well-known text is a control token, whatever type the file gives it.
    assert 257 in tokenizer.special


def test_harmony_ends_at_return_and_call_but_not_at_end() -> None:
    names = ["<|return|>", "<|call|>", "<|end|>", "<|channel|>", "<|start|>"]
    tokenizer = load_tokenizer(byte_level(special=dict.fromkeys(names, CONTROL)))
    assert tokenizer.end_of_generation == {256, 257}
    assert tokenizer.special == {256, 257}


def test_an_html_tag_does_not_end_gemma_4() -> None:
    names = ["<turn|>", "<|tool_response>", "</s>"]
    tokenizer = load_tokenizer(byte_level(special=dict.fromkeys(names, CONTROL)))
    assert tokenizer.end_of_generation == {256, 257}


def test_nested_special_tokens_take_little_memory_in_a_long_text() -> None:
    # Gemma has a token for each number of line feeds up to 31.
    splitter = SpecialSplitter({n: "\n" * n for n in range(1, 32)})
    text = "\n" * 310_000 + "a"
    tracemalloc.start()
    try:
        parts = splitter.split(text)
        starts = splitter.starts(text, shortest=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parts == [31] * 10_000 + ["a"]
    assert len(starts) == 309_999
    assert peak < 50 * len(text)


def test_a_special_token_that_is_too_long_to_be_one_is_refused() -> None:
    special = {"<" * (MAX_SPECIAL + 1): CONTROL}
    with pytest.raises(FileFormatError, match=r"tokens\[256\]: a special token of 513"):
        load_tokenizer(byte_level(special=special))
