from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import FileFormatError, NextnError
from nextn.files import open_checkpoint
from nextn.files.safetensors import open_safetensors
from nextn.tools.convert.vocabulary import Vocabulary, read_vocabulary
from tests.support.safetensors_bytes import write_folder
from tests.support.tiny_tokenizers import byte_level_bpe, sentencepiece
from tests.support.tokenizer_json import PRE_TOKENIZERS, split, tokenizer_config, tokenizer_json

ROWS = 320
Change = Callable[[dict[str, Any]], Any]


def read(folder: Path, tokenizer: Any, rows: int = ROWS, **files: Any) -> Vocabulary:
    config = files.pop("config", {"model_type": "llama"})
    write_folder(folder, {"a": np.ones(1, np.float32)}, config, tokenizer=tokenizer, **files)
    with open_safetensors(folder) as opened:
        return read_vocabulary(opened, rows, [])


def bytes_metadata(pre: str = "smollm") -> dict[str, Any]:
    return byte_level_bpe(ROWS, pre=pre, chat_template="T")


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_the_rule_is_found_by_what_the_file_says(pre: str, tmp_path: Path) -> None:
    metadata = bytes_metadata(pre)
    got = read(
        tmp_path, tokenizer_json(metadata), tokenizer_config=tokenizer_config(metadata)
    ).metadata
    assert got["tokenizer.ggml.pre"] == pre
    for key, value in metadata.items():
        found = got[key]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value, key


@pytest.mark.parametrize("kind", ["pairs", "text"])
def test_merges_are_read_in_both_forms(kind: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_json(bytes_metadata())
    if kind == "text":
        tokenizer["model"]["merges"] = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    got = read(tmp_path, tokenizer).metadata
    assert got["tokenizer.ggml.merges"] == bytes_metadata()["tokenizer.ggml.merges"]


def test_an_expression_in_the_older_form_is_the_same_rule(tmp_path: Path) -> None:
    tokenizer = tokenizer_json(bytes_metadata("qwen2"))
    tokenizer["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    assert read(tmp_path, tokenizer).metadata["tokenizer.ggml.pre"] == "qwen2"


def test_special_tokens_are_named_by_text_or_by_id(tmp_path: Path) -> None:
    tokenizer = tokenizer_json(bytes_metadata())
    files = {
        "tokenizer_config": {"eos_token": {"content": "<|im_end|>"}, "pad_token": None},
        "generation_config": {"eos_token_id": [0, 2, 5], "pad_token_id": 1},
    }
    config = {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 0}
    got = read(tmp_path, tokenizer, config=config, **files).metadata
    ids = {key: value for key, value in got.items() if key.endswith("_token_id")}
    assert ids == {
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 1,
        # "<|endoftext|>", which is 0, ends a text in any case.
        "tokenizer.ggml.eot_token_id": 5,
    }


@pytest.mark.parametrize(
    ("setting", "template", "expected"),
    [
        ({}, None, (False, False)),
        ({}, ["SpecialToken", "Sequence"], (True, False)),
        ({}, ["Sequence", "SpecialToken"], (False, True)),
        ({"add_bos_token": False}, ["SpecialToken", "Sequence"], (False, False)),
        ({"add_bos_token": True, "add_eos_token": True}, None, (True, True)),
    ],
)
def test_tokens_around_a_text_follow_the_settings_or_else_the_template(
    setting: dict[str, Any],
    template: list[str] | None,
    expected: tuple[bool, bool],
    tmp_path: Path,
) -> None:
    tokenizer = tokenizer_json(bytes_metadata())
    if template is not None:
        parts = {
            "SpecialToken": {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
            "Sequence": {"Sequence": {"id": "A", "type_id": 0}},
        }
        process = {
            "type": "TemplateProcessing",
            "single": [parts[kind] for kind in template],
            "pair": [],
            "special_tokens": {
                "<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}
            },
        }
        tokenizer["post_processor"] = {"type": "Sequence", "processors": [process]}
    got = read(tmp_path, tokenizer, tokenizer_config=setting).metadata
    assert got["tokenizer.ggml.add_bos_token"] is expected[0]
    assert got["tokenizer.ggml.add_eos_token"] is expected[1]


def test_tokens_that_look_like_marks_are_control_tokens(tmp_path: Path) -> None:
    tokenizer = tokenizer_json(bytes_metadata())
    for added in tokenizer["added_tokens"]:
        added["special"] = False
    size = len(tokenizer["model"]["vocab"])
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": size, "content": "<t>"})
    types = read(tmp_path, tokenizer).metadata["tokenizer.ggml.token_type"]
    assert isinstance(types, np.ndarray)
    assert types[:4].tolist() == [3, 3, 3, 1]
    assert types[size : size + 2].tolist() == [4, 5]


def test_pieces_get_scores_in_the_order_of_their_merges(tmp_path: Path) -> None:
    metadata = sentencepiece(ROWS + 10, chat_template=None)
    tokenizer = tokenizer_json(metadata)
    got = read(tmp_path, tokenizer, ROWS + 10).metadata
    scores, texts = got["tokenizer.ggml.scores"], got["tokenizer.ggml.tokens"]
    assert isinstance(scores, np.ndarray)
    assert isinstance(texts, list)
    merged = list(dict.fromkeys("".join(pair) for pair in tokenizer["model"]["merges"]))
    by_score = sorted(merged, key=lambda text: -scores[texts.index(text)])
    assert by_score == merged
    assert got["tokenizer.ggml.add_space_prefix"] is False


@pytest.mark.parametrize("form", ["Prepend", "Metaspace"])
def test_a_space_before_the_text_is_kept(form: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_json(sentencepiece(ROWS + 10, chat_template=None))
    if form == "Prepend":
        steps = [{"type": "Prepend", "prepend": "▁"}, tokenizer["normalizer"]]
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": steps}
        tokenizer["pre_tokenizer"] = None
    else:
        tokenizer["normalizer"] = None
        tokenizer["pre_tokenizer"] = {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "never",
            "split": False,
        }
    got = read(tmp_path, tokenizer, ROWS + 10).metadata
    assert got["tokenizer.ggml.add_space_prefix"] is (form == "Prepend")


def model(**settings: Any) -> Change:
    return lambda file: file["model"].update(settings)


def whole(**settings: Any) -> Change:
    return lambda file: file.update(settings)


def vocabulary(text: str, token: int) -> Change:
    return lambda file: file["model"]["vocab"].update({text: token})


# What is wrong -> how the file is changed, words of the error.
WRONG: dict[str, tuple[Change, str]] = {
    "another kind": (model(type="Unigram"), "'Unigram' is not supported"),
    "dropout": (model(dropout=0.1), "model.dropout"),
    "an affix": (model(end_of_word_suffix="</w>"), "model.end_of_word_suffix"),
    "no merges": (model(merges=[]), "merges: is missing or empty"),
    "merges of numbers": (model(merges=[[1, 2]]), "is not a pair of parts"),
    "merges of three": (model(merges=[["a", "b", "c"]]), "is not a pair of parts"),
    "merges of one": (model(merges=["ab"]), "is not a pair of parts"),
    "no tokens": (model(vocab={}), "is not the id of a token|vocab|not in the vocabulary"),
    "an id of text": (vocabulary("x", "1"), "expected an integer"),  # type: ignore[arg-type]
    "a negative id": (vocabulary("x", -1), "x: is -1"),
    "an id beyond the rows": (vocabulary("zz", ROWS), f"zz: is {ROWS}, but must be at least 0"),
    "an id twice": (vocabulary("zz", 7), "has the id 7, which"),
    "an added id beyond the rows": (
        whole(added_tokens=[{"id": 1 << 40, "content": "x"}]),
        "must be at least 0",
    ),
    "an added token that is another": (
        whole(added_tokens=[{"id": 7, "content": "other"}]),
        "7 is both",
    ),
    "an added token of a number": (whole(added_tokens=[7]), "content: is missing"),
    "an added token that the library counts otherwise": (
        lambda file: file["added_tokens"].append(
            {**file["added_tokens"][0], "id": 310, "content": "n"}
        ),
        "'n' has the id 310, but the tokenizers library gives it",
    ),
    "an unknown normalizer": (whole(normalizer={"type": "Lowercase"}), "the type 'Lowercase'"),
    "an unknown pre-tokenizer": (
        whole(pre_tokenizer={"type": "Whitespace"}),
        "the type 'Whitespace'",
    ),
    "an unknown expression": (whole(pre_tokenizer=split(r"\w+")), "which no known pre-tokenizer"),
    "an expression that never ends": (
        whole(pre_tokenizer=split(r"(a|a|aa)+$")),
        "which no known pre-tokenizer",
    ),
    "a space before bytes": (
        whole(pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True}),
        "puts a space before",
    ),
    "pieces without spaces": (model(byte_fallback=True), "not supported for a tokenizer of pieces"),
    "what the library refuses": (whole(decoder={"type": "no such"}), "the tokenizers library"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_tokenizer_that_cannot_be_converted_is_refused(what: str, tmp_path: Path) -> None:
    change, message = WRONG[what]
    tokenizer = tokenizer_json(bytes_metadata())
    change(tokenizer)
    with pytest.raises(NextnError, match=message) as caught:
        read(tmp_path, tokenizer)
    assert str(caught.value).isprintable()
    assert "tokenizer.json" in str(caught.value)


def test_merges_that_come_in_another_order_are_noticed(tmp_path: Path) -> None:
    """A file without a merge of a piece that its neighbours could make all the same."""
    tokenizer = tokenizer_json(sentencepiece(ROWS + 10, chat_template=None))
    merges = tokenizer["model"]["merges"]
    tokenizer["model"]["merges"] = [pair for pair in merges if "".join(pair) != "he"]
    tokenizer["model"]["merges"].append(["h", "e"])
    read(tmp_path, tokenizer, ROWS + 10)
    tokenizer["model"]["merges"] = [pair for pair in merges if "".join(pair) != "he"]
    with pytest.raises(NextnError, match="would become other tokens from a GGUF file"):
        read(tmp_path, tokenizer, ROWS + 10)


@pytest.mark.parametrize("name", ["bos_token", "eos_token"])
def test_a_special_token_that_is_no_token_is_refused(name: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_json(bytes_metadata())
    with pytest.raises(FileFormatError, match=f"{name}: '<none>' is not in the vocabulary"):
        read(tmp_path, tokenizer, tokenizer_config={name: "<none>"})
    for wrong in (ROWS, "2", True, [1, 2.5]):
        with pytest.raises(FileFormatError, match=f"{name}_id: .* is not the id of a token"):
            read(tmp_path, tokenizer, tokenizer_config={}, generation_config={f"{name}_id": wrong})


@pytest.mark.models
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_the_tokenizers_of_real_models_come_out_as_they_are(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if name == "gemma3" and os.environ.get("NEXTN_TEST_ALL_MODELS") != "1":
        pytest.skip("takes ten seconds; NEXTN_TEST_ALL_MODELS=1 asks for it")
    with open_checkpoint(request.getfixturevalue(f"{name}_path")) as checkpoint:
        metadata: dict[str, Any] = {}
        for key, value in checkpoint.metadata.items():
            if key.startswith("tokenizer."):
                decoded = value.decode() if hasattr(value, "decode") else value
                metadata[key] = decoded.tolist() if isinstance(decoded, np.ndarray) else decoded
    tokenizer = tokenizer_json(metadata)
    if name == "gemma3":
        assert len(tokenizer["model"]["merges"]) == 514_906  # as in the published file
    rows = len(metadata["tokenizer.ggml.tokens"])
    got = read(
        tmp_path, json.loads(json.dumps(tokenizer)), rows,
        tokenizer_config=tokenizer_config(metadata),
    ).metadata  # fmt: skip
    for key in (
        "model",
        "pre",
        "tokens",
        "merges",
        "bos_token_id",
        "eos_token_id",
        "add_bos_token",
    ):
        assert got.get(f"tokenizer.ggml.{key}") == metadata.get(f"tokenizer.ggml.{key}"), key
    types = got["tokenizer.ggml.token_type"]
    assert isinstance(types, np.ndarray)
    differ = np.flatnonzero(types != np.array(metadata["tokenizer.ggml.token_type"]))
    # Gemma's file counts the unknown token as a control token.
    assert differ.tolist() == ([3] if name == "gemma3" else [])
