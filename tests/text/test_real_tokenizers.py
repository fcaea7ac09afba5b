"""The tokenizers of the real models, against token ids stored from llama.cpp (see make_data.py)."""

import json
import time
from pathlib import Path

import pytest

from nextn.files import open_checkpoint
from nextn.text.tokenizer import Tokenizer, load_tokenizer

DATA = Path(__file__).parent / "data"

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Tokenizer:
    with open_checkpoint(smollm2_path) as checkpoint:
        return load_tokenizer(checkpoint.tokenizer)


@pytest.fixture(scope="module")
def gemma3(gemma3_path: Path) -> Tokenizer:
    with open_checkpoint(gemma3_path) as checkpoint:
        return load_tokenizer(checkpoint.tokenizer)


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_ids_are_those_of_llama_cpp(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    for text, expected in json.loads((DATA / f"{name}_tokens.json").read_text()):
        assert tokenizer.encode(text, add_special=False) == expected, text


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_prose_survives_the_round_trip(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    text = "Zwölf Boxkämpfer;  it's\n\n\t12345 — 我们 😀👍🏽 <|im_end|><bos>\r\n"
    assert tokenizer.decode(tokenizer.encode(text, add_special=False)) == text


def test_generation_ends_where_it_ends_in_llama_cpp(smollm2: Tokenizer, gemma3: Tokenizer) -> None:
    assert smollm2.end_of_generation == {0, 2, 4}
    assert gemma3.end_of_generation == {1, 106, 212}


def test_gemma_begins_with_its_begin_token_and_smollm2_does_not(
    smollm2: Tokenizer, gemma3: Tokenizer
) -> None:
    assert gemma3.encode("Hi")[0] == gemma3.bos_id == 2
    assert smollm2.encode("Hi")[0] != smollm2.bos_id


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_a_prompt_of_ten_thousand_tokens_takes_no_time(
    name: str, request: pytest.FixtureRequest
) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    words = [f"word{i % 997} is {i}, and so on;" for i in range(1200)]
    text = "\n".join(words)
    start = time.perf_counter()
    ids = tokenizer.encode(text)
    assert len(ids) > 10_000
    assert time.perf_counter() - start < 1
