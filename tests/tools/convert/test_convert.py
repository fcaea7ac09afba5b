from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from nextn.errors import (
    FileFormatError,
    NextnError,
    OutputError,
    SourceError,
    UnsupportedModelError,
)
from nextn.files import open_checkpoint
from nextn.files.safetensors import open_safetensors
from nextn.models import load_model_plan
from nextn.models.nextn_head import load_head_plan, vocabulary_hash
from nextn.tools.convert import ConvertResult, convert
from nextn.tools.extract import extract_head
from tests.models.test_reference_logits import logits_of
from tests.models.tiny_families import DATA
from tests.models.tiny_families import FAMILIES as STORED
from tests.support.safetensors_bytes import Given, bfloat16, write_safetensors
from tests.support.tiny_checkpoints import tiny_state, write_tiny_checkpoint
from tests.support.tiny_gguf import FAMILIES, TinyHead, write_tiny_head, write_tiny_model

HEAD = TinyHead(own_output=True, own_table=True)


def converted(tmp_path: Path, family: str, **settings: Any) -> tuple[ConvertResult, GGUFReader]:
    part = settings.pop("part", "all")
    output_type = settings.pop("output_type", "auto")
    folder = write_tiny_checkpoint(tmp_path / "model", family, **settings)
    result = convert(folder, tmp_path / "got.gguf", part=part, output_type=output_type)
    return result, GGUFReader(tmp_path / "got.gguf")


def tensors_of(reader: GGUFReader) -> dict[str, np.ndarray]:
    return {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def contents(reader: GGUFReader) -> dict[str, Any]:
    fields = reader.fields.items()
    return {key: field.contents() for key, field in fields if not key.startswith("GGUF.")}


@pytest.mark.parametrize(
    ("family", "shards"), [("llama", 1), ("gemma3", 1), ("qwen3", 3), ("qwen2", 1)]
)
def test_the_file_equals_what_the_gguf_package_writes(
    family: str, shards: int, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "expected.gguf", family)
    expected = GGUFReader(tmp_path / "expected.gguf")
    result, got = converted(tmp_path, family, shards=shards)
    wanted, found = tensors_of(expected), tensors_of(got)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        if family == "gemma3" and name.endswith("norm.weight"):
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-7)
        else:
            np.testing.assert_array_equal(found[name], values)
    keys = contents(got)
    own = {"general.name": "model", "general.file_type": 0, "tokenizer.ggml.add_eos_token": False}
    for key, value in {**contents(expected), **own}.items():
        if key == "tokenizer.ggml.scores":
            # The order is what counts: pieces that are merged first have the highest scores.
            pieces = [n for n, kind in enumerate(keys["tokenizer.ggml.token_type"]) if kind == 1]
            merged = [n for n in pieces if len(keys["tokenizer.ggml.tokens"][n]) > 1]
            order = sorted(merged, key=lambda n: -value[n])
            assert sorted(merged, key=lambda n: -keys[key][n]) == order
        else:
            assert keys[key] == value, key
    assert set(keys) == {*contents(expected), *own}
    assert result.tensors == len(wanted)
    assert result.bytes == (tmp_path / "got.gguf").stat().st_size
    assert result.head == "the checkpoint holds none"
    assert result.left_out == result.notes == ()


@pytest.mark.parametrize("family", STORED)
def test_logits_are_those_that_transformers_computes(family: str, tmp_path: Path) -> None:
    converted(tmp_path, family, **STORED[family])
    expected = np.load(DATA / f"{family}.npy")
    got = logits_of(tmp_path / "got.gguf", "reference", 40)
    assert np.abs(got - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", ["deepseek", "qwen"])
def test_a_head_comes_along(family: str, way: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "expected.gguf", family, head=HEAD)
    result, got = converted(tmp_path, family, head=HEAD, way=way)
    wanted, found = tensors_of(GGUFReader(tmp_path / "expected.gguf")), tensors_of(got)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-7)
    assert contents(got)[f"{family}.block_count"] == 3
    assert contents(got)[f"{family}.nextn_predict_layers"] == 1
    assert result.head == f"in the file: 1 block, {result.head_tensors} tensors"
    assert result.head_tensors == sum(name.startswith("blk.2.") for name in found)
    with open_checkpoint(tmp_path / "got.gguf") as checkpoint:
        load_head_plan(checkpoint, checkpoint)


@pytest.mark.parametrize("way", ["deepseek", "qwen"])
def test_a_head_alone_fits_its_trunk(way: str, tmp_path: Path) -> None:
    write_tiny_head(tmp_path / "expected.gguf", "qwen3", HEAD)
    result, got = converted(tmp_path, "qwen3", head=HEAD, way=way, part="head")
    wanted, found = tensors_of(GGUFReader(tmp_path / "expected.gguf")), tensors_of(got)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    assert result.head.startswith("alone: 1 block, ")
    write_tiny_model(tmp_path / "trunk.gguf", "qwen3")
    with (
        open_checkpoint(tmp_path / "trunk.gguf") as trunk,
        open_checkpoint(tmp_path / "got.gguf") as head,
    ):
        load_head_plan(trunk, head)
        assert head.string("nextn.head.vocab_hash") == vocabulary_hash(trunk)
        assert head.string("nextn.head.trunk") == "model"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_alone_is_the_one_that_is_extracted_from_the_whole(
    family: str, tmp_path: Path
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", family, head=HEAD)
    convert(folder, tmp_path / "whole.gguf", output_type="bf16")
    extract_head(tmp_path / "whole.gguf", tmp_path / "extracted.gguf")
    convert(folder, tmp_path / "head.gguf", output_type="bf16", part="head")
    assert (tmp_path / "head.gguf").read_bytes() == (tmp_path / "extracted.gguf").read_bytes()


@pytest.mark.parametrize("way", ["deepseek", "qwen"])
def test_a_head_is_left_out_only_when_told_and_named(way: str, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "expected.gguf", "qwen3")
    result, got = converted(tmp_path, "qwen3", head=HEAD, way=way, part="trunk")
    expected = GGUFReader(tmp_path / "expected.gguf")
    assert tensors_of(got).keys() == tensors_of(expected).keys()
    assert contents(got)["qwen3.block_count"] == 2
    assert "qwen3.nextn_predict_layers" not in contents(got)
    assert re.match(r"left out: 17 tensors \(m", result.head)
    assert result.head_tensors == 0
    assert len(result.left_out) == 17


def rename(folder: Path, change: dict[str, str | None]) -> None:
    """Give tensors other names; None takes one out."""
    state = tiny_state("qwen3", head=HEAD)
    renamed: dict[str, Given] = {}
    for name, values in state.items():
        new = change.get(name, name)
        if new is not None:
            renamed[new] = values
    write_safetensors(folder / "model.safetensors", renamed)


def test_a_head_that_is_not_understood_is_an_error_and_names_its_tensors(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "qwen3", head=HEAD)
    state: dict[str, Given] = {**tiny_state("qwen3"), "model.mtp_layers.0.input_proj.weight": ONE}
    state["medusa_head.0.linear.weight"] = ONE
    write_safetensors(folder / "model.safetensors", state)
    with pytest.raises(
        UnsupportedModelError, match=r"medusa_head\.0\.linear\.weight, model\.mtp_layers"
    ):
        convert(folder, tmp_path / "got.gguf")
    result = convert(folder, tmp_path / "got.gguf", part="trunk")
    assert "medusa_head.0.linear.weight" in result.head
    assert result.left_out == (
        "medusa_head.0.linear.weight",
        "model.mtp_layers.0.input_proj.weight",
    )


ONE = np.ones((2, 2), np.float32)
LAST = "model.layers.2"


@pytest.mark.parametrize("missing", ["eh_proj", "hnorm", "self_attn.q_proj", "mlp.down_proj"])
def test_a_head_that_is_incomplete_is_an_error(missing: str, tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "qwen3", head=HEAD)
    rename(folder, {f"{LAST}.{missing}.weight": None})
    with pytest.raises(FileFormatError, match=rf"tensor layers\.2\.{missing}\.weight: is missing"):
        convert(folder, tmp_path / "got.gguf")
    assert not (tmp_path / "got.gguf").exists()


def test_a_head_that_is_declared_but_missing_is_an_error(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "model", "qwen3", config={"num_nextn_predict_layers": 1}
    )
    with pytest.raises(FileFormatError, match="num_nextn_predict_layers: declares 1 block"):
        convert(folder, tmp_path / "got.gguf")
    result = convert(folder, tmp_path / "got.gguf", part="trunk")
    assert result.head.startswith("num_nextn_predict_layers declares one, but")


def test_a_head_that_is_not_declared_is_converted_and_told(tmp_path: Path) -> None:
    config = {"num_nextn_predict_layers": None}
    result, got = converted(tmp_path, "llama", head=HEAD, config=config)
    assert contents(got)["llama.nextn_predict_layers"] == 1
    assert result.notes == ("config.json did not declare the prediction head; the file does",)


def test_a_head_alone_needs_a_head(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="holds no prediction head"):
        converted(tmp_path, "llama", part="head")


def test_matrices_keep_their_precision_unless_told_otherwise(tmp_path: Path) -> None:
    def store(name: str, values: np.ndarray) -> dict[str, Given]:
        if "q_proj" in name:
            return {name: values.astype(np.float16)}
        return {name: bfloat16(values)} if values.ndim > 1 else {name: values}

    _, got = converted(tmp_path, "llama", store=store)
    types = {tensor.name: tensor.tensor_type.name for tensor in got.tensors}
    assert types["blk.0.attn_q.weight"] == "F16"
    assert types["blk.0.attn_k.weight"] == types["token_embd.weight"] == "BF16"
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert contents(got)["general.file_type"] == 32


@pytest.mark.parametrize("output_type", ["f32", "f16", "bf16", "q8_0"])
def test_every_type_is_that_of_the_gguf_package(output_type: str, tmp_path: Path) -> None:
    types = output_type.upper()
    write_tiny_model(tmp_path / "expected.gguf", "qwen2", types=types)
    result, got = converted(tmp_path, "qwen2", output_type=output_type)
    wanted, found = tensors_of(GGUFReader(tmp_path / "expected.gguf")), tensors_of(got)
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    assert set(result.types) == {types, "F32"}


def test_rows_that_are_no_whole_blocks_are_written_in_another_type(tmp_path: Path) -> None:
    result, got = converted(
        tmp_path, "llama", output_type="q8_0", hidden=48, heads=3, kv_heads=1, head_dim=16
    )
    types = {tensor.name: tensor.tensor_type.name for tensor in got.tensors}
    assert types["blk.0.attn_q.weight"] == "BF16"
    assert types["blk.0.ffn_down.weight"] == "Q8_0"
    assert "matrices, such as" in result.notes[0]


def fp8(name: str, values: np.ndarray) -> dict[str, Given]:
    """Quantise matrices to E4M3 with a scale for each output; the rest stays."""
    if values.ndim == 1 or "embed" in name or "lm_head" in name:
        return {name: bfloat16(values)}
    from nextn.files.safetensors.dtypes import E4M3

    grid = np.nan_to_num(E4M3[:127])
    scale = np.abs(values).max(axis=1, keepdims=True) / 448
    codes = np.abs(np.abs(values / scale)[:, :, None] - grid).argmin(axis=2).astype(np.uint8)
    codes |= (values < 0).astype(np.uint8) << np.uint8(7)
    return {
        name: ("F8_E4M3", codes),
        f"{name}_scale": scale.astype(np.float32),
        name.replace("weight", "input_scale"): np.ones(1, np.float32),
    }


def test_a_quantised_trunk_with_a_plain_head_is_decided_by_what_is_on_disk(tmp_path: Path) -> None:
    def store(name: str, values: np.ndarray) -> dict[str, Given]:
        return {name: bfloat16(values)} if name.startswith("mtp.") else fp8(name, values)

    config = {"quantization_config": {"quant_method": "fp8", "ignore": []}}
    result, got = converted(
        tmp_path, "qwen3", head=HEAD, way="qwen", store=store, config=config, output_type="f32"
    )
    write_tiny_model(tmp_path / "expected.gguf", "qwen3", head=HEAD)
    wanted, found = tensors_of(GGUFReader(tmp_path / "expected.gguf")), tensors_of(got)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        error = np.abs(found[name] - values).max() / np.abs(values).max()
        assert error < (0.004 if name.startswith("blk.2.") or values.ndim == 1 else 0.04), name
    assert set(result.layouts) == {"BF16", "FP8 per output"}
    assert all(name.endswith("input_scale") for name in result.left_out)


def test_an_output_that_is_the_embedding_is_left_out_and_another_one_refused(
    tmp_path: Path,
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    state: dict[str, Given] = dict(tiny_state("llama"))
    embedding = state["model.embed_tokens.weight"]
    assert isinstance(embedding, np.ndarray)
    write_safetensors(folder / "model.safetensors", {**state, "lm_head.weight": embedding})
    result = convert(folder, tmp_path / "got.gguf")
    assert result.left_out == ("lm_head.weight",)
    assert "output.weight" not in tensors_of(GGUFReader(tmp_path / "got.gguf"))
    write_safetensors(folder / "model.safetensors", {**state, "lm_head.weight": embedding * 2})
    with pytest.raises(FileFormatError, match=r"lm_head\.weight: is not the embedding"):
        convert(folder, tmp_path / "got.gguf")


def test_rows_of_the_embedding_without_a_token_get_one(tmp_path: Path) -> None:
    _, got = converted(tmp_path, "llama", vocab=400)
    keys = contents(got)
    assert keys["tokenizer.ggml.tokens"][-1] == "[PAD399]"
    assert keys["tokenizer.ggml.token_type"][-1] == 5
    assert len(keys["tokenizer.ggml.tokens"]) == 400


@pytest.mark.parametrize(
    ("prefix", "output"),
    [("language_model.model.", "language_model.lm_head"), ("model.language_model.", "lm_head")],
)
def test_the_text_part_of_a_model_that_sees_is_converted(
    prefix: str, output: str, tmp_path: Path
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "gemma3")
    config = json.loads((folder / "config.json").read_text())
    both = {"model_type": "gemma3", "vision_config": {"hidden_size": 8}, "text_config": config}
    (folder / "config.json").write_text(json.dumps(both))
    state: dict[str, Given] = {
        name.replace("model.", prefix, 1).replace("lm_head", output): values
        for name, values in tiny_state("gemma3").items()
    }
    state["vision_tower.encoder.weight"] = ONE
    write_safetensors(folder / "model.safetensors", state)
    result = convert(folder, tmp_path / "got.gguf")
    write_tiny_model(tmp_path / "expected.gguf", "gemma3")
    found = tensors_of(GGUFReader(tmp_path / "got.gguf"))
    for name, values in tensors_of(GGUFReader(tmp_path / "expected.gguf")).items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-7)
    assert result.left_out == ("vision_tower.encoder.weight",)


# What is wrong -> settings of config.json, words of the error.
CONFIGS: dict[str, tuple[str, dict[str, Any], str]] = {
    "another family": ("llama", {"model_type": "mamba"}, "model_type: 'mamba' is not supported"),
    "no family": ("llama", {"model_type": None}, "model_type: is missing"),
    "another activation": ("llama", {"hidden_act": "gelu"}, "hidden_act: is \"'gelu'\""),
    "experts": ("qwen3", {"num_experts": 8}, "num_experts: is '8'"),
    "capped logits": ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
    "no heads": ("llama", {"num_attention_heads": None}, "num_attention_heads: is missing"),
    "a size of text": ("llama", {"hidden_size": "64"}, "hidden_size: expected an integer"),
    "no size": ("llama", {"hidden_size": 0}, "hidden_size: is 0"),
    "uneven groups": ("llama", {"num_key_value_heads": 3}, "num_key_value_heads: 4 heads"),
    "an odd head": ("qwen3", {"head_dim": 15}, "head_dim: 15 is odd"),
    "a head of a gigabyte": ("qwen3", {"head_dim": 1 << 30}, "head_dim: is 1073741824"),
    "more blocks than there are": (
        "llama",
        {"num_hidden_layers": 3},
        r"tensor layers\.2\.input_layernorm\.weight: is missing",
    ),
    "other sizes": ("llama", {"intermediate_size": 96}, "has the shape .*config.json says"),
    "an unknown scaling": (
        "llama",
        {"rope_scaling": {"rope_type": "longrope", "factor": 2.0}},
        "'longrope' is not supported",
    ),
    "yarn of its own kind": (
        "qwen3",
        {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16}},
        r"rope_scaling\.beta_fast: nextn's yarn takes 32",
    ),
    "half heads turned": ("qwen3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "another order of layers": (
        "gemma3",
        {"layer_types": ["full_attention", "sliding_attention"]},
        "layer_types: nextn's gemma3 has",
    ),
    "another scale of attention": (
        "gemma3",
        {"query_pre_attn_scalar": 20},
        "query_pre_attn_scalar: nextn's gemma3",
    ),
    "no base": ("qwen3", {"rope_theta": None}, "rope_theta: is missing"),
    "no output": ("llama", {"tie_word_embeddings": False}, r"lm_head\.weight: is missing"),
}


@pytest.mark.parametrize("what", CONFIGS)
def test_a_configuration_that_cannot_be_followed_is_refused(what: str, tmp_path: Path) -> None:
    family, config, message = CONFIGS[what]
    with pytest.raises(NextnError, match=message):
        converted(tmp_path, family, config=config)
    assert not list(tmp_path.glob("*.gguf"))


def test_an_unknown_tensor_of_the_trunk_is_refused_even_without_the_head(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    state: dict[str, Given] = {**tiny_state("llama"), "model.layers.0.self_attn.sinks": ONE}
    state["model.layers.1.mlp.down_proj.bias"] = np.ones(64, np.float32)
    write_safetensors(folder / "model.safetensors", state)
    for part in ("all", "trunk"):
        with pytest.raises(UnsupportedModelError, match="sinks: not known, and the text would be"):
            convert(folder, tmp_path / "got.gguf", part=part)  # type: ignore[arg-type]
    del state["model.layers.0.self_attn.sinks"]
    write_safetensors(folder / "model.safetensors", state)
    with pytest.raises(UnsupportedModelError, match=r"down_proj\.bias: nextn's llama has no such"):
        convert(folder, tmp_path / "got.gguf")


def test_settings_that_are_not_known_are_told(tmp_path: Path) -> None:
    result, _ = converted(tmp_path, "llama", config={"attention_temperature": 2.0})
    assert "'attention_temperature'" in result.notes[0]


def test_a_window_over_all_blocks_limits_the_context(tmp_path: Path) -> None:
    config = {"model_type": "mistral", "sliding_window": 100}
    result, got = converted(tmp_path, "llama", config=config)
    assert contents(got)["llama.context_length"] == 100
    assert "sliding_window is 100" in result.notes[0]


@pytest.mark.parametrize("place", ["rope_scaling", "rope_parameters"])
def test_rotary_settings_are_found_in_both_places(place: str, tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    config: dict[str, Any] = {place: scaling}
    if place == "rope_parameters":
        config = {place: {**scaling, "rope_theta": 5e5}, "rope_theta": None}
    _, got = converted(tmp_path, "qwen3", config=config)
    keys = contents(got)
    assert keys["qwen3.rope.scaling.type"] == "yarn"
    assert keys["qwen3.rope.scaling.factor"] == 4.0
    assert keys["qwen3.rope.scaling.original_context_length"] == 128
    assert keys["qwen3.rope.freq_base"] == (1e6 if place == "rope_scaling" else 5e5)


def test_the_factors_of_llama3_are_a_tensor(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    _, got = converted(tmp_path, "llama", config={"rope_scaling": scaling})
    factors = tensors_of(got)["rope_freqs.weight"]
    # Written as in the published description: by wavelength, one frequency after the other.
    for index, factor in enumerate(factors.tolist()):
        wavelength = 2 * np.pi * 1e5 ** (2 * index / 16)
        if wavelength < 64 / 4.0:
            expected = 1.0
        elif wavelength > 64 / 1.0:
            expected = 8.0
        else:
            smooth = (64 / wavelength - 1.0) / (4.0 - 1.0)
            expected = 1 / ((1 - smooth) / 8.0 + smooth)
        assert factor == pytest.approx(expected, rel=1e-6)
    with open_checkpoint(tmp_path / "got.gguf") as checkpoint:
        load_model_plan(checkpoint)


def test_a_wide_head_is_written_down(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    state: dict[str, Given] = {}
    for name, values in tiny_state("llama").items():
        if "q_proj" in name or "k_proj" in name or "v_proj" in name:
            values = np.concatenate((values, values))
        if "o_proj" in name:
            values = np.concatenate((values, values), axis=1)
        state[name] = values
    write_safetensors(folder / "model.safetensors", state)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "head_dim": 32}))
    convert(folder, tmp_path / "got.gguf")
    keys = contents(GGUFReader(tmp_path / "got.gguf"))
    assert keys["llama.attention.key_length"] == keys["llama.rope.dimension_count"] == 32
    with open_checkpoint(tmp_path / "got.gguf") as checkpoint:
        load_model_plan(checkpoint)


def test_a_damaged_weight_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    def store(name: str, values: np.ndarray) -> dict[str, Given]:
        values = values.copy()
        if name.endswith("1.mlp.up_proj.weight"):
            values[3, 5] = np.nan if tmp_path.exists() else 0
        return {name: values}

    with pytest.raises(FileFormatError, match=r"1\.mlp\.up_proj\.weight: holds NaN"):
        converted(tmp_path, "llama", store=store, output_type="q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    sizes = {"hidden": 256, "heads": 4, "kv_heads": 4, "head_dim": 64, "ffn": 1024, "layers": 8}
    folder = write_tiny_checkpoint(tmp_path / "model", "llama", **sizes)
    convert(folder, tmp_path / "got.gguf", output_type="f16")
    tracemalloc.start()
    try:
        result = convert(folder, tmp_path / "got.gguf", output_type="f16")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    largest = 1024 * 256 * 4
    assert result.bytes > 16 * largest
    assert peak < 6 * largest


def test_bytes_that_were_let_go_can_be_read_again(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    with open_safetensors(folder) as opened:
        for name, values in tiny_state("llama").items():
            np.testing.assert_array_equal(opened.tensors[name].array, values)
            opened.tensors[name].release()
            np.testing.assert_array_equal(opened.tensors[name].array, values)


def test_a_value_beyond_float16_is_refused(tmp_path: Path) -> None:
    def store(name: str, values: np.ndarray) -> dict[str, Given]:
        return {name: values * np.float32(1e6)}

    with pytest.raises(FileFormatError, match="holds values that F16 has not; convert to bf16"):
        converted(tmp_path, "llama", store=store, output_type="f16")


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(OutputError, match="is one of the inputs"):
        convert(folder, folder / "model.safetensors")
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_missing_tokenizer_or_configuration_is_named(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "llama")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(SourceError, match=r"tokenizer\.json: is missing"):
        convert(folder, tmp_path / "got.gguf")
    (folder / "config.json").unlink()
    with pytest.raises(SourceError, match=r"config\.json: is missing"):
        convert(folder, tmp_path / "got.gguf")


def test_an_unknown_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="type 'q9' is not supported"):
        convert(tmp_path, tmp_path / "got.gguf", output_type="q9")
