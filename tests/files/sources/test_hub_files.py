"""Which file of a repository is meant by a quantisation."""

from __future__ import annotations

import pytest

from nextn.errors import SourceError
from nextn.files.sources.hub_files import HubFile, choose, contents, head_for, label_of

LABELS = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "Q4_1",
    "gemma-3-270m-q4_k_m.gguf": "Q4_K_M",
    "Qwen3-0.6B-UD-Q4_K_XL.gguf": "UD-Q4_K_XL",
    "Qwen3-0.6B-BF16.gguf": "BF16",
    "model-IQ4_XS.gguf": "IQ4_XS",
    "gpt-oss-20b-MXFP4.gguf": "MXFP4",
    "model-BF16-Q8_0.gguf": "Q8_0",
    "big-Q4_K_M-00001-of-00002.gguf": "Q4_K_M",
    "Q6_K/big-00001-of-00002.gguf": "Q6_K",
    "Qwen3-F16-experts.gguf": "F16",
    "Qwen3-8B.gguf": "",
    "model.gguf": "",
}


def models(*paths: str) -> list[str]:
    return [model.path for model in contents(HubFile(path, 1) for path in paths).models]


def chosen(wanted: str, *paths: str) -> str:
    return choose(contents(HubFile(path, 1) for path in paths).models, wanted, "hf:u/r").path


@pytest.mark.parametrize(("path", "label"), LABELS.items())
def test_the_label_is_the_quantisation_in_the_name(path: str, label: str) -> None:
    assert label_of(path) == label


def test_files_that_are_no_models_are_left_out() -> None:
    others = ("mmproj-F16.gguf", "m-mmproj.gguf", "imatrix.gguf", "mtp-m.gguf", "README.md")
    assert models("m-Q8_0.gguf", *others) == ["m-Q8_0.gguf"]


def test_a_split_model_is_one_model_if_all_its_parts_are_there() -> None:
    parts = [f"m-Q8_0-0000{number}-of-00003.gguf" for number in (3, 1, 2)]
    (model,) = contents(HubFile(path, 5) for path in parts).models
    assert [part.path for part in model.parts] == sorted(parts)
    assert model.bytes == 15
    assert models(*parts[:2]) == []
    assert models("m-Q8_0-00000-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf") == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("Q4_K_M", "m-Q4_K_M.gguf"),
        ("q4_k_m", "m-Q4_K_M.gguf"),
        ("UD-Q4_K_M", "m-UD-Q4_K_M.gguf"),
        ("ud-q2_k_xl", "m-UD-Q2_K_XL.gguf"),
        ("Q2_K_XL", "m-UD-Q2_K_XL.gguf"),
        ("Q8_0", "m-Q8_0-it.gguf"),
        ("m-q4_k_m.gguf", "m-Q4_K_M.gguf"),
        ("it", "m-Q8_0-it.gguf"),
    ],
)
def test_a_quantisation_is_found_in_any_case_and_the_exact_one_first(
    wanted: str, expected: str
) -> None:
    paths = ("m-Q4_K_M.gguf", "m-UD-Q4_K_M.gguf", "m-UD-Q2_K_XL.gguf", "m-Q8_0-it.gguf")
    assert chosen(wanted, *paths) == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (("m-Q2_K.gguf", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf"), "m-Q4_K_M.gguf"),
        (("m-Q2_K.gguf", "m-Q4_0.gguf", "m-Q8_0.gguf"), "m-Q4_0.gguf"),
        (("m-Q2_K.gguf", "m-Q8_0.gguf"), "m-Q8_0.gguf"),
        (("m-Q2_K.gguf",), "m-Q2_K.gguf"),
        (("m.gguf",), "m.gguf"),
    ],
)
def test_without_a_quantisation_the_usual_one_is_taken(
    paths: tuple[str, ...], expected: str
) -> None:
    assert chosen("", *paths) == expected


def test_what_is_not_there_or_not_clear_is_answered_with_what_there_is() -> None:
    with pytest.raises(SourceError, match=r"no model in a \.gguf file"):
        chosen("")
    with pytest.raises(SourceError, match=r"there is no Q4_0; .*: Q2_K \(.*\), Q8_0 \("):
        chosen("Q4_0", "m-Q2_K.gguf", "m-Q8_0.gguf")
    with pytest.raises(SourceError, match=r"which of 2 models\?.*: Q2_K \(0\.0 MB\), Q3_K"):
        chosen("", "m-Q2_K.gguf", "m-Q3_K.gguf")
    with pytest.raises(SourceError, match=r"2 models are called Q8_0.*a-Q8_0\.gguf \(.*b-Q8_0"):
        chosen("q8_0".upper(), "a-Q8_0.gguf", "b-Q8_0.gguf")


def test_the_heads_of_the_same_quantisation_are_taken() -> None:
    found = contents(
        HubFile(path, 1)
        for path in ("m-Q4_K_M.gguf", "m-Q2_K.gguf", "mtp-m-F16.gguf", "mtp-m-Q4_K_M.gguf")
    )
    heads = {model.label: head_for(model, found.heads) for model in found.models}
    assert heads["Q4_K_M"] == HubFile("mtp-m-Q4_K_M.gguf", 1)
    assert heads["Q2_K"] == HubFile("mtp-m-F16.gguf", 1)
    assert head_for(found.models[0], ()) is None
