"""Heads and models that do not belong together, and files that are not what they seem."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import FileFormatError, NextnError, OutputError, UnsupportedModelError
from nextn.files import Tensor, open_checkpoint
from nextn.files.gguf.writer import NewTensor, TensorCopy, write_gguf
from nextn.heads import find_head
from nextn.tools.attach import attach_beside, attach_head
from nextn.tools.detach import detach_head
from nextn.tools.extract import extract_head
from tests.support.tiny_families import write_tiny_qwen35
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

Change = Callable[[dict[str, Any], dict[str, NewTensor]], None]


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    path = tmp_path / "trunk.gguf"
    write_tiny_model(path, "llama")
    return path


@pytest.fixture
def head(tmp_path: Path) -> Path:
    path = tmp_path / "head.gguf"
    write_tiny_head(path, "llama", TinyHead())
    return path


def rewritten(path: Path, change: Change) -> Path:
    """A file with other metadata or tensors."""
    with open_checkpoint(path) as source:
        keys: dict[str, Any] = dict(source.encoded_metadata)
        tensors: dict[str, NewTensor] = {
            name: TensorCopy.of(tensor) for name, tensor in source.tensors.items()
        }
        change(keys, tensors)
        changed = path.with_name(f"changed-{path.name}")
        write_gguf(changed, keys, tensors)
    return changed


def refusal(trunk: Path, head: Path, **options: Any) -> str:
    """Why it is refused; nothing is written."""
    before = set(trunk.parent.iterdir())
    with pytest.raises(NextnError) as caught:
        attach_head(trunk, head, trunk.with_name("out.gguf"), **options)
    assert set(trunk.parent.iterdir()) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_head_of_another_architecture(trunk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    write_tiny_head(other, "qwen3", TinyHead())
    reason = refusal(trunk, other, force=True)
    assert "architecture is 'qwen3' for the head and 'llama' for the model" in reason


def test_a_head_of_another_hidden_size(trunk: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    write_tiny_head(other, "llama", TinyHead(), hidden=128, heads=8)
    assert "the hidden size of the head is 128, that of it is 64" in refusal(trunk, other)


def test_a_head_whose_projection_has_another_shape(trunk: Path, head: Path) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        whole = tensors["blk.2.nextn.eh_proj.weight"]
        assert isinstance(whole, TensorCopy)
        tensors["blk.2.nextn.eh_proj.weight"] = TensorCopy(
            (128, 64), whole.block_type, whole.path, whole.offset
        )

    reason = refusal(trunk, rewritten(head, change), force=True)
    assert "blk.2.nextn.eh_proj.weight has the shape 128 x 64, not 64 x 128" in reason


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"layers": 3}, "made for a trunk of 3 blocks, but this one has 2"),
        ({"heads": 2, "head_dim": 32}, "llama.attention.head_count is 2 for the head and 4 for"),
        ({"kv_heads": 4}, "blk.2.attn_k.weight has the shape 64 x 64, in the model 32 x 64"),
        ({"ffn": 256}, "llama.feed_forward_length is 256 for the head and 128 for the model"),
        ({"vocab": 352}, "the vocabulary is another one (352 tokens instead of 320)"),
        (
            {"metadata": {"tokenizer.ggml.pre": "qwen2"}},
            "tokenizer.ggml.pre is 'qwen2' for the head and 'smollm' for the model",
        ),
    ],
    ids=["blocks", "heads", "key heads", "width", "vocabulary", "tokenizer"],
)
def test_a_head_that_was_made_for_another_model_needs_force(
    trunk: Path, tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    other = tmp_path / "other.gguf"
    write_tiny_head(other, "llama", TinyHead(), **settings)
    found = refusal(trunk, other)
    assert reason in found
    assert found.endswith("or use force (--force) if you know that it fits")
    result = attach_head(trunk, other, tmp_path / "out.gguf", force=True)
    assert any(reason in note for note in result.notes)


def test_tokens_that_differ_are_counted(trunk: Path, head: Path) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        with open_checkpoint(head) as source:
            tokens = source.strings("tokenizer.ggml.tokens")
        tokens[300:302] = ["new one", "new two"]
        keys["tokenizer.ggml.tokens"] = tokens

    reason = refusal(trunk, rewritten(head, change))
    assert "another one (2 of 320 tokens differ, the first is 300: " in reason


def test_a_vocabulary_that_is_known_by_its_hash_alone_is_compared(
    trunk: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", head=TinyHead(), vocab=352)
    extract_head(model, tmp_path / "donor.gguf")
    assert "the vocabulary is another one;" in refusal(trunk, tmp_path / "donor.gguf")


def test_a_head_that_says_nothing_of_its_vocabulary_is_attached_with_a_note(
    trunk: Path, head: Path, tmp_path: Path
) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        del keys["tokenizer.ggml.tokens"]

    result = attach_head(trunk, rewritten(head, change), tmp_path / "out.gguf")
    assert "whether head and model have one vocabulary is not known" in result.notes


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"own_output": True}, "shared_head_head.weight is for 352 tokens, but the model has 320"),
        ({"own_table": True}, "embed_tokens.weight is for 352 tokens, but the model has 320"),
        ({"draft_vocab": [1, 340]}, "lists tokens up to 340, but the model has 320"),
    ],
    ids=["output", "table", "draft vocabulary"],
)
def test_matrices_for_more_tokens_than_there_are(
    trunk: Path, tmp_path: Path, own: dict[str, Any], reason: str
) -> None:
    other = tmp_path / "other.gguf"
    write_tiny_head(other, "llama", TinyHead(**own), vocab=352)
    assert reason in refusal(trunk, other, force=True)


def test_a_fine_tuned_model_gets_the_head_and_remembers_whose_it_was(
    head: Path, tmp_path: Path
) -> None:
    tuned = tmp_path / "tuned.gguf"
    names = {"general.name": "Tuned", "llama.rope.freq_base": 5e5}
    write_tiny_model(tuned, "llama", seed=3, metadata=names)
    base = tmp_path / "base.gguf"
    write_tiny_model(base, "llama", head=TinyHead())
    extract_head(base, tmp_path / "donor.gguf")
    result = attach_head(tuned, tmp_path / "donor.gguf", tmp_path / "out.gguf")
    assert "the head was made for 'Tiny llama', this model is 'Tuned'" in result.notes
    assert any("llama.rope.freq_base is 100000 for the head" in note for note in result.notes)
    with open_checkpoint(tmp_path / "out.gguf") as out:
        assert out.string("nextn.head.trunk") == "Tiny llama"
        assert out.number("llama.rope.freq_base") == 5e5
        assert find_head(out).found is not None


def test_a_model_that_has_a_head_already(head: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", head=TinyHead())
    assert "model.gguf: has a head already" in refusal(model, head)
    assert "head.gguf: is a head alone already" in refusal(head, model)


def test_a_donor_without_a_head(trunk: Path, tmp_path: Path) -> None:
    assert "trunk.gguf: holds no prediction head" in refusal(trunk, trunk)
    dropped = tmp_path / "dropped.gguf"
    write_tiny_model(dropped, "llama", head=TinyHead(), parts=("trunk",))
    assert "declares 1 block(s) of a prediction head, but the file holds" in refusal(trunk, dropped)
    for tool in (extract_head, detach_head):
        with pytest.raises(FileFormatError, match="declares 1 block"):
            tool(dropped, tmp_path / "out.gguf")
        with pytest.raises(UnsupportedModelError, match="holds no prediction head"):
            tool(trunk, tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("blocks", "layers"), [(3, 1), (3, 0), (2, 1)], ids=["both kept", "key lost", "count corrected"]
)
def test_a_model_whose_head_was_dropped_gets_right_counts(
    head: Path, tmp_path: Path, blocks: int, layers: int
) -> None:
    dropped = tmp_path / "dropped.gguf"
    counts = {"llama.block_count": blocks, "llama.nextn_predict_layers": layers}
    write_tiny_model(dropped, "llama", metadata=counts)
    result = attach_head(dropped, head, tmp_path / "out.gguf")
    assert any(f"declared {blocks} blocks, {layers} of them" in note for note in result.notes)
    with open_checkpoint(tmp_path / "out.gguf") as out:
        assert out.integer("llama.block_count") == 3
        assert out.integer("llama.nextn_predict_layers") == 1
        assert find_head(out).found is not None


def without(prefix: str) -> Change:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        for name in [name for name in tensors if name.startswith(prefix)]:
            del tensors[name]

    return change


def test_a_model_with_missing_blocks(trunk: Path, head: Path, tmp_path: Path) -> None:
    first = rewritten(trunk, without("blk.0."))
    assert "misses the blocks 0; take the whole model" in refusal(first, head)
    longer = tmp_path / "longer.gguf"
    write_tiny_model(longer, "llama", layers=6)
    reason = refusal(rewritten(longer, without("blk.5.")), head)
    assert "made for a trunk of 2 blocks, but this one has 5" in reason
    write_tiny_model(longer, "llama", layers=6)
    cut = rewritten(
        rewritten(rewritten(longer, without("blk.5.")), without("blk.4.")), without("blk.3.")
    )
    assert "says 6 blocks, but the file holds 3" in refusal(cut, head, force=True)
    assert "holds no blocks of a trunk" in refusal(rewritten(trunk, without("blk.")), head)


@pytest.mark.parametrize("declared", [2, 3])
def test_a_head_of_fewer_blocks_than_are_declared(
    head: Path, tmp_path: Path, declared: int
) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        keys["llama.nextn_predict_layers"] = declared
        keys["llama.block_count"] = 2 + declared

    with pytest.raises(FileFormatError, match=f"declares {declared} .* the file holds 1: 2"):
        extract_head(rewritten(head, change), tmp_path / "out.gguf")


def test_a_model_that_does_not_say_how_many_blocks_it_has(head: Path, tmp_path: Path) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        del keys["llama.block_count"]

    with pytest.raises(FileFormatError, match=r"llama\.block_count: is missing"):
        extract_head(rewritten(head, change), tmp_path / "out.gguf")


def test_a_head_in_the_middle_of_the_blocks(head: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", layers=4, head=TinyHead())

    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        for name in [name for name in tensors if ".nextn." in name]:
            tensors[name.replace("blk.4.", "blk.1.")] = tensors.pop(name)

    with pytest.raises(FileFormatError, match=r"in the blocks 1, which are not the last"):
        extract_head(rewritten(model, change), tmp_path / "out.gguf")


def test_a_head_that_is_not_declared_is_declared_when_it_was_moved(
    trunk: Path, head: Path, tmp_path: Path
) -> None:
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        del keys["llama.nextn_predict_layers"]

    result = attach_head(trunk, rewritten(head, change), tmp_path / "out.gguf")
    assert any("did not declare its head" in note for note in result.notes)
    with open_checkpoint(tmp_path / "out.gguf") as out:
        assert out.integer("llama.nextn_predict_layers") == 1


def test_blocks_with_different_values_need_that_of_the_head(tmp_path: Path) -> None:
    key = "qwen35.attention.head_count_kv"
    write_tiny_qwen35(tmp_path / "model.gguf")
    extract_head(tmp_path / "model.gguf", tmp_path / "head.gguf")

    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        del keys[key]

    unsaid = rewritten(tmp_path / "head.gguf", change)
    trunk = tmp_path / "trunk.gguf"
    write_tiny_qwen35(trunk, head=False, metadata={key: [2, 2, 2, 1]})
    assert f"{key}: is missing" in refusal(trunk, unsaid)
    write_tiny_qwen35(trunk, head=False, metadata={key: [2, 2, 2, 2]})
    attach_head(trunk, unsaid, tmp_path / "out.gguf")
    with open_checkpoint(tmp_path / "out.gguf") as out:
        assert out.integers(key).tolist() == [2, 2, 2, 2, 2]
        assert np.asarray(out.metadata[key]).dtype == np.int32


def test_outputs_that_are_inputs(trunk: Path, head: Path, tmp_path: Path) -> None:
    before = trunk.read_bytes(), head.read_bytes()
    for output in (trunk, head):
        with pytest.raises(OutputError, match="is one of the inputs"):
            attach_head(trunk, head, output)
    model = tmp_path / "model.gguf"
    write_tiny_model(model, "llama", head=TinyHead())
    with pytest.raises(OutputError, match="is one of the inputs"):
        extract_head(model, model)
    with pytest.raises(OutputError, match="cannot be both"):
        detach_head(model, tmp_path / "out.gguf", head_output=tmp_path / "out.gguf")
    assert (trunk.read_bytes(), head.read_bytes()) == before
    assert not (tmp_path / "out.gguf").exists()


def test_a_file_beside_the_model_is_replaced_only_when_asked(
    trunk: Path, head: Path, tmp_path: Path
) -> None:
    beside = tmp_path / "mtp-trunk.gguf"
    beside.write_bytes(b"another head")
    with pytest.raises(OutputError, match=r"mtp-trunk\.gguf: exists already"):
        attach_beside(trunk, head)
    assert beside.read_bytes() == b"another head"
    attach_beside(trunk, head, replace=True)
    with open_checkpoint(beside) as file:
        assert file.integer("llama.block_count") == 3


def test_a_truncated_or_damaged_file(trunk: Path, head: Path, tmp_path: Path) -> None:
    content = head.read_bytes()
    for size in (0, 3, 100, len(content) // 2, len(content) - 40):
        head.write_bytes(content[:size])
        refusal(trunk, head)


def test_missing_shards_are_named(tmp_path: Path) -> None:
    write_tiny_qwen35(tmp_path / "parts.gguf", tensors_per_part=20)
    (tmp_path / "parts-00003-of-00004.gguf").unlink()
    with pytest.raises(
        NextnError, match=r"parts-00003-of-00004\.gguf: part 3 of 4 of the model is"
    ):
        extract_head(tmp_path / "parts-00001-of-00004.gguf", tmp_path / "out.gguf")


def test_tensors_of_the_trunk_in_a_head_s_file_are_not_attached(
    trunk: Path, head: Path, tmp_path: Path
) -> None:
    # Files for llama.cpp's draft models hold the trunk's embedding and output, too.
    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        with open_checkpoint(trunk) as model:
            tensors["token_embd.weight"] = TensorCopy.of(model.tensors["token_embd.weight"])
            tensors["output_norm.weight"] = TensorCopy.of(model.tensors["output_norm.weight"])

    result = attach_head(trunk, rewritten(head, change), tmp_path / "out.gguf")
    attach_head(trunk, head, tmp_path / "expected.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == (tmp_path / "expected.gguf").read_bytes()
    assert any("token_embd.weight, output_norm.weight" in note for note in result.notes)


def test_no_weight_is_read(trunk: Path, head: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tensor, "data", property(lambda _: pytest.fail("a weight was read")))
    attach_head(trunk, head, trunk.with_name("out.gguf"))


@pytest.mark.parametrize("key", ["llama.rope.scaling.type", "general.name", "tokenizer.ggml.pre"])
def test_a_list_where_the_model_has_a_text_is_no_crash(tmp_path: Path, key: str) -> None:
    trunk, head = tmp_path / "trunk.gguf", tmp_path / "head.gguf"
    write_tiny_model(trunk, "llama", metadata={key: "text"})
    write_tiny_head(head, "llama", TinyHead())

    def change(keys: dict[str, Any], tensors: dict[str, NewTensor]) -> None:
        keys[key] = np.arange(2000, dtype=np.int32)

    result = attach_head(trunk, rewritten(head, change), tmp_path / "out.gguf", force=True)
    assert not any("\n" in note for note in result.notes)
