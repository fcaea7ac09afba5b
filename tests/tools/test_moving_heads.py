"""Heads taken out, put in and taken out again: what must be the same is the same, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

import nextn
from nextn.files import open_checkpoint
from nextn.files.gguf.writer import TensorCopy, write_gguf
from nextn.heads import find_head
from nextn.tools.attach import attach_beside, attach_head, beside_path
from nextn.tools.detach import detach_head
from nextn.tools.extract import extract_head
from tests.support.tiny_families import TRUNK_BLOCKS, write_tiny_qwen35
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

PER_BLOCK = {
    "qwen35.attention.head_count_kv": [0, 0, 0, 2, 1],
    "qwen35.attention.recurrent_layers": [True, True, True, False, False],
}


@pytest.fixture(params=["dense", "experts", "lists"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model with a head, of a family that decides nothing here."""
    path = tmp_path / "model.gguf"
    lists = PER_BLOCK if request.param == "lists" else {}
    write_tiny_qwen35(path, experts=request.param == "experts", types="Q8_0", metadata=lists)
    return path


def tensors_of(path: Path) -> dict[str, tuple[list[int], str, bytes]]:
    """What the `gguf` package reads."""
    return {
        each.name: (each.shape.tolist(), each.tensor_type.name, each.data.tobytes())
        for each in GGUFReader(path).tensors
    }


def values_of(path: Path) -> dict[str, object]:
    fields = GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_a_head_extracted_attached_and_extracted_again_is_the_same_file(
    model: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    extract_head(model, first)
    detach_head(model, tmp_path / "plain.gguf")
    attach_head(tmp_path / "plain.gguf", first, tmp_path / "again.gguf")
    extract_head(tmp_path / "again.gguf", second)
    assert first.read_bytes() == second.read_bytes()


def test_a_head_that_is_not_declared_is_the_same_when_it_is(model: Path, tmp_path: Path) -> None:
    with open_checkpoint(model) as source:
        keys = dict(source.encoded_metadata)
        del keys[f"{source.architecture}.nextn_predict_layers"]
        copies = {name: TensorCopy.of(tensor) for name, tensor in source.tensors.items()}
        write_gguf(tmp_path / "undeclared.gguf", keys, copies)
    extract_head(model, tmp_path / "first.gguf")
    extract_head(tmp_path / "undeclared.gguf", tmp_path / "second.gguf")
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "second.gguf").read_bytes()


def test_an_extracted_head_does_not_depend_on_the_file_that_held_it(
    model: Path, tmp_path: Path
) -> None:
    # Another quantiser, which writes keys in another order and leaves others out.
    extract_head(model, tmp_path / "first.gguf")
    with open_checkpoint(model) as source:
        keys = dict(reversed(source.encoded_metadata.items()))
        del keys["tokenizer.ggml.merges"]
        trunk = {
            name: TensorCopy.of(tensor)
            for name, tensor in source.tensors.items()
            if not name.startswith(f"blk.{TRUNK_BLOCKS}.")
        }
        write_gguf(tmp_path / "trunk.gguf", keys, trunk)
    attach_head(tmp_path / "trunk.gguf", tmp_path / "first.gguf", tmp_path / "again.gguf")
    extract_head(tmp_path / "again.gguf", tmp_path / "second.gguf")
    assert (tmp_path / "first.gguf").read_bytes() == (tmp_path / "second.gguf").read_bytes()


def test_a_model_detached_and_attached_again_is_the_same_file(model: Path, tmp_path: Path) -> None:
    plain, head, again = (tmp_path / f"{name}.gguf" for name in ("plain", "head", "again"))
    result = detach_head(model, plain, head_output=head)
    assert result.head_path == head
    attach_head(plain, head, again)
    # Also the metadata: the keys that declare the head keep their places.
    assert again.read_bytes() == model.read_bytes()


def test_an_extracted_head_holds_its_block_and_nothing_else(model: Path, tmp_path: Path) -> None:
    result = extract_head(model, tmp_path / "head.gguf")
    whole, head = tensors_of(model), tensors_of(tmp_path / "head.gguf")
    assert head == {
        name: value for name, value in whole.items() if name.startswith(f"blk.{TRUNK_BLOCKS}.")
    }
    assert (result.first, result.blocks, result.tensors) == (TRUNK_BLOCKS, 1, len(head))
    assert result.bytes == sum(len(data) for *_, data in head.values())
    assert result.formats[0] == "Q8_0"
    keys = values_of(tmp_path / "head.gguf")
    family = keys["general.architecture"]
    assert keys[f"{family}.block_count"] == TRUNK_BLOCKS + 1
    assert keys[f"{family}.nextn_predict_layers"] == 1
    assert keys["nextn.head.trunk"] == "Tiny Qwen"
    assert keys["tokenizer.ggml.pre"] == "qwen2"
    assert "tokenizer.ggml.tokens" not in keys
    whole_keys = values_of(model)
    shared = {key for key in whole_keys if key.startswith(f"{family}.")}
    assert {key: keys[key] for key in shared} == {key: whole_keys[key] for key in shared}


def test_a_model_without_its_head_holds_all_the_rest(model: Path, tmp_path: Path) -> None:
    detach_head(model, tmp_path / "plain.gguf")
    whole, plain = tensors_of(model), tensors_of(tmp_path / "plain.gguf")
    prefix = f"blk.{TRUNK_BLOCKS}."
    assert plain == {name: each for name, each in whole.items() if not name.startswith(prefix)}
    before, after = values_of(model), values_of(tmp_path / "plain.gguf")
    family = before["general.architecture"]
    assert after[f"{family}.block_count"] == TRUNK_BLOCKS
    assert after[f"{family}.nextn_predict_layers"] == 0
    different = {key for key in before if before[key] != after[key]}
    counts = {f"{family}.block_count", f"{family}.nextn_predict_layers"}
    lists = {key for key in PER_BLOCK if isinstance(before.get(key), list)}
    assert different == counts | lists
    for key in lists:
        assert after[key] == PER_BLOCK[key][:TRUNK_BLOCKS]


@pytest.mark.parametrize("types", ["F32", "Q4_0"])
def test_a_head_keeps_its_precision_in_any_quantisation(
    model: Path, tmp_path: Path, types: str
) -> None:
    extract_head(model, tmp_path / "head.gguf")
    trunk = tmp_path / "trunk.gguf"
    before = values_of(model)
    lists = {key: PER_BLOCK[key][:-1] for key in PER_BLOCK if isinstance(before.get(key), list)}
    experts = before["general.architecture"] == "qwen35moe"
    write_tiny_qwen35(trunk, experts=experts, head=False, seed=7, types=types, metadata=lists)
    result = attach_head(trunk, tmp_path / "head.gguf", tmp_path / "out.gguf")
    found = tensors_of(tmp_path / "out.gguf")
    assert found == tensors_of(trunk) | tensors_of(tmp_path / "head.gguf")
    assert result.paths == (tmp_path / "out.gguf",)


def test_a_model_in_parts_stays_one_in_parts(tmp_path: Path) -> None:
    write_tiny_qwen35(tmp_path / "whole.gguf")
    write_tiny_qwen35(tmp_path / "parts.gguf", tensors_per_part=20)
    first = tmp_path / "parts-00001-of-00004.gguf"
    extract_head(first, tmp_path / "head.gguf")
    extract_head(tmp_path / "whole.gguf", tmp_path / "same.gguf")
    assert (tmp_path / "head.gguf").read_bytes() == (tmp_path / "same.gguf").read_bytes()
    result = detach_head(first, tmp_path / "plain.gguf")
    assert [path.name for path in result.paths] == [
        f"plain-0000{n}-of-00004.gguf" for n in (1, 2, 3, 4)
    ]
    again = attach_head(result.paths[0], tmp_path / "head.gguf", tmp_path / "again.gguf").paths
    merged = [each for path in again for each in tensors_of(path).items()]
    assert merged == list(tensors_of(tmp_path / "whole.gguf").items())
    with open_checkpoint(again[0]) as parts, open_checkpoint(first) as original:
        assert list(parts.tensors) == list(original.tensors)
        assert dict(parts.metadata).keys() == dict(original.metadata).keys()


def test_a_head_of_several_blocks_moves_with_all_of_them(tmp_path: Path) -> None:
    # The second block of the head has no tensors called nextn; the count says that it is of it.
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", layers=2, head=TinyHead())
    write_tiny_model(tmp_path / "longer.gguf", "llama", layers=4, head=TinyHead())
    with open_checkpoint(tmp_path / "longer.gguf") as source:
        tensors = {
            name.replace("blk.4.nextn", "blk.2.nextn"): TensorCopy.of(tensor)
            for name, tensor in source.tensors.items()
            if not name.startswith("blk.4.") or "nextn" in name
        }
        counts = {"llama.block_count": 4, "llama.nextn_predict_layers": 2}
        write_gguf(path, {**source.encoded_metadata, **counts}, tensors)
    result = detach_head(path, tmp_path / "plain.gguf", head_output=tmp_path / "head.gguf")
    assert (result.first, result.blocks) == (2, 2)
    with open_checkpoint(tmp_path / "head.gguf") as head:
        assert {name.split(".")[1] for name in head.tensors} == {"2", "3"}
    with open_checkpoint(tmp_path / "plain.gguf") as plain:
        assert plain.integer("llama.block_count") == 2
    attach_head(tmp_path / "plain.gguf", tmp_path / "head.gguf", tmp_path / "again.gguf")
    assert tensors_of(tmp_path / "again.gguf") == tensors_of(path)


@pytest.mark.parametrize("family", ["llama", "gemma3", "qwen3", "qwen2"])
def test_a_head_beside_or_inside_is_found_and_drafts_the_same(tmp_path: Path, family: str) -> None:
    trunk, head = tmp_path / "trunk.gguf", tmp_path / "elsewhere" / "head.gguf"
    head.parent.mkdir()
    write_tiny_model(trunk, family)
    write_tiny_head(head, family, TinyHead(draft_vocab=range(0, 320, 2)))
    before = trunk.read_bytes()
    beside = attach_beside(trunk, head)
    assert beside.paths == (beside_path(trunk),)
    assert beside.paths[0].name == "mtp-trunk.gguf"
    assert trunk.read_bytes() == before
    inside = attach_head(trunk, head, head.with_name("inside.gguf")).paths[0]
    outputs = []
    for path, origin in ((trunk, "beside"), (inside, "inside")):
        with nextn.load(path, threads=1, context=128) as model:
            assert model.head is not None
            assert (model.head.origin, model.head.draft_vocabulary) == (origin, 160)
            outputs.append(model.generate("hello", max_tokens=8, temperature=0.0).tokens)
    with nextn.load(trunk, threads=1, context=128, head=None) as model:
        outputs.append(model.generate("hello", max_tokens=8, temperature=0.0).tokens)
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_head_that_counts_its_blocks_from_0_gets_the_numbers_after_the_trunk(
    tmp_path: Path,
) -> None:
    write_tiny_qwen35(tmp_path / "model.gguf", metadata=PER_BLOCK)
    detach_head(
        tmp_path / "model.gguf", tmp_path / "plain.gguf", head_output=tmp_path / "head.gguf"
    )
    with open_checkpoint(tmp_path / "head.gguf") as head:
        tensors = {
            name.replace("blk.4.", "blk.0."): TensorCopy.of(tensor)
            for name, tensor in head.tensors.items()
        }
        keys = {key: value[-1:] for key, value in head.metadata.items() if key in PER_BLOCK}
        keys["qwen35.block_count"] = 1
        write_gguf(tmp_path / "zero.gguf", {**head.encoded_metadata, **keys}, tensors)
    attach_head(tmp_path / "plain.gguf", tmp_path / "zero.gguf", tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "model.gguf").read_bytes()
    attach_beside(tmp_path / "plain.gguf", tmp_path / "zero.gguf")
    with open_checkpoint(tmp_path / "mtp-plain.gguf") as beside:
        assert all(name.startswith("blk.4.") for name in beside.tensors)
        assert beside.integer("qwen35.block_count") == 5
        assert len(beside.integers("qwen35.attention.head_count_kv")) == 5
        assert np.asarray(beside.metadata["qwen35.attention.head_count_kv"])[-1] == 1


def test_a_head_beside_a_model_in_parts_is_found(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "trunk.gguf", "llama", tensors_per_part=10)
    write_tiny_head(tmp_path / "head.gguf", "llama", TinyHead())
    trunk = tmp_path / "trunk-00001-of-00002.gguf"
    attach_beside(trunk, tmp_path / "head.gguf")
    with open_checkpoint(trunk) as checkpoint:
        found = find_head(checkpoint).found
        assert found is not None
        assert found.path.name == "mtp-trunk-00001-of-00002.gguf"


@pytest.mark.models
def test_the_head_that_nextn_ships_runs_inside_its_model(
    smollm2_path: Path, tmp_path: Path
) -> None:
    shipped = Path(nextn.__file__).parent / "heads" / "smollm2.gguf"
    attach_head(smollm2_path, shipped, tmp_path / "with.gguf")
    with open_checkpoint(tmp_path / "with.gguf") as checkpoint:
        found = find_head(checkpoint).found
        assert found is not None
        assert (found.origin, found.draft_vocabulary) == ("inside", 18_304)
    extract_head(tmp_path / "with.gguf", tmp_path / "head.gguf")
    assert tensors_of(tmp_path / "head.gguf") == tensors_of(shipped)
