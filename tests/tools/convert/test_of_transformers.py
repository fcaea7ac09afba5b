"""Settings and names as `transformers` writes them, and its logits; see make_checkpoints.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nextn.tools.convert import convert
from tests.models.test_reference_logits import logits_of
from tests.models.tiny_families import DATA as PLAIN
from tests.models.tiny_families import FAMILIES, TOKENS
from tests.support.safetensors_bytes import write_folder
from tests.support.tiny_checkpoints import tiny_state, tiny_tokenizer
from tests.support.tokenizer_json import tokenizer_config, tokenizer_json

DATA = Path(__file__).parent / "data"
CASES = sorted(path.stem for path in DATA.glob("*.json"))


def converted(case: str, tmp_path: Path) -> Path:
    stored = json.loads((DATA / f"{case}.json").read_text())
    family = case.split("_")[0]
    state = tiny_state(family, **FAMILIES[family])
    assert {name: list(values.shape) for name, values in state.items()} == stored["tensors"]
    tokenizer = tiny_tokenizer(family)
    folder = write_folder(
        tmp_path / "model",
        state,
        stored["config"],
        tokenizer=tokenizer_json(tokenizer),
        tokenizer_config=tokenizer_config(tokenizer),
    )
    result = convert(folder, tmp_path / "got.gguf")
    assert result.notes == result.left_out == ()
    return result.path


def expected(case: str) -> np.ndarray:
    return np.load((PLAIN if case in FAMILIES else DATA) / f"{case}.npy")


@pytest.mark.parametrize("case", CASES)
def test_what_it_saves_is_converted_and_gives_its_logits(case: str, tmp_path: Path) -> None:
    got = logits_of(converted(case, tmp_path), "reference", 40)
    assert np.abs(got - expected(case)).max() < 1e-5 * np.abs(expected(case)).max()


@pytest.mark.parametrize("case", ["llama_llama3", "qwen2", "qwen3_yarn", "gemma3"])
def test_the_file_loads_in_llama_cpp_and_gives_the_same_choices(case: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    path = converted(case, tmp_path)
    # Keys and values in float32.
    model = llama_cpp.Llama(
        str(path), n_ctx=64, n_threads=1, verbose=False, logits_all=True, type_k=0, type_v=0
    )
    model.eval(TOKENS)
    got = np.array(model.scores[: len(TOKENS)])
    model.close()
    ours = logits_of(path, "reference", 40)
    # It looks the activation of Gemma up in a table of float16.
    tolerance = 2e-3 if case.startswith("gemma3") else 1e-5
    assert np.abs(got - ours).max() < tolerance * np.abs(ours).max()
    np.testing.assert_array_equal(got.argmax(axis=1), ours.argmax(axis=1))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma3"])
def test_llama_cpp_gives_the_tokens_of_the_tokenizer(family: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    tokenizers = pytest.importorskip("tokenizers")
    path = converted(family, tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    for text in ("the rain in the end of the war", "he's 12 and 345", "<bos>in<|im_end|> on"):
        want = theirs.encode(text, add_special_tokens=False).ids
        assert model.tokenize(text.encode(), add_bos=False, special=True) == want
    model.close()
