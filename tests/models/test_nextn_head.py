from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nextn.errors import FileFormatError, NextnError, UnsupportedModelError
from nextn.files import Checkpoint, open_checkpoint
from nextn.models import load_model_plan
from nextn.models.head_tensors import trunk_blocks
from nextn.models.nextn_head import load_head_plan, new_head_plan, vocabulary_hash
from nextn.plan import Linear, LoadHidden, Logits, StoreHidden, fuse
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

FAMILIES = ["llama", "gemma3", "qwen3", "qwen2"]


def write_both(
    folder: Path, family: str = "llama", head: TinyHead | None = None, **settings: Any
) -> tuple[Checkpoint, Checkpoint]:
    """A model without a head, and a head-only file for it."""
    write_tiny_model(folder / "tiny.gguf", family, **settings)
    write_tiny_head(folder / "mtp-tiny.gguf", family, head or TinyHead(), **settings)
    return open_checkpoint(folder / "tiny.gguf"), open_checkpoint(folder / "mtp-tiny.gguf")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("own", [False, True])
def test_a_head_uses_all_its_tensors_and_borrows_the_others(
    family: str, own: bool, tmp_path: Path
) -> None:
    head = TinyHead(own_norm=own, own_output=own, own_table=own)
    trunk, file = write_both(tmp_path, family, head)
    model = load_head_plan(trunk, file)
    used = {weight.name for weight in model.head.weights}
    assert used & file.tensors.keys() == file.tensors.keys() == set(model.tensors)
    output = "output.weight" if "output.weight" in trunk.tensors else "token_embd.weight"
    borrowed = set() if own else {"token_embd.weight", "output_norm.weight", output}
    assert used - file.tensors.keys() == borrowed
    assert model.bytes == sum(tensor.nbytes for tensor in file.tensors.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_inside_the_model_is_the_same_as_one_beside_it(family: str, tmp_path: Path) -> None:
    trunk, file = write_both(tmp_path, family)
    write_tiny_model(tmp_path / "both.gguf", family, head=TinyHead())
    both = open_checkpoint(tmp_path / "both.gguf")
    assert load_head_plan(both, both).head == load_head_plan(trunk, file).head
    # The model with the head inside has the same trunk.
    assert load_model_plan(both) == load_model_plan(trunk)


@pytest.mark.parametrize("kind", ["post", "pre"])
def test_the_trunk_keeps_the_hidden_state_that_the_head_takes(kind: Any, tmp_path: Path) -> None:
    model = load_head_plan(*write_both(tmp_path, head=TinyHead(hidden_kind=kind)))
    for plan, only_wanted in ((model.trunk, False), (model.head, True)):
        (store,) = (op for op in plan.operations if isinstance(op, StoreHidden))
        (logits,) = (op for op in plan.operations if isinstance(op, Logits))
        assert (store.x == logits.x) == (kind == "post")
        assert store.only_wanted == only_wanted
    assert sum(isinstance(op, LoadHidden) for op in model.head.operations) == 1
    assert model.trunk.hidden_layers == model.head.hidden_layers == (64,)
    assert model.head.cache_layers == (*model.trunk.cache_layers, model.trunk.cache_layers[0])


def test_the_block_of_the_head_fuses_like_those_of_the_trunk(tmp_path: Path) -> None:
    model = load_head_plan(*write_both(tmp_path, "qwen3"))
    kinds = [type(op) for op in fuse(model.trunk).operations]
    block = kinds[1 : 1 + (len(kinds) - 4) // 2]
    head = [type(op) for op in fuse(model.head).operations]
    assert head[: len(head) - 3][-len(block) :] == block
    assert head[len(head) - len(block) - 4] is Linear  # eh_proj


def test_a_draft_vocabulary_takes_rows_of_the_output_matrix(tmp_path: Path) -> None:
    ids = (3, 5, 70, 319)
    model = load_head_plan(*write_both(tmp_path, head=TinyHead(draft_vocab=ids)))
    logits = model.head.operations[-1]
    assert isinstance(logits, Logits)
    assert (logits.rows, model.head.token_ids, model.head.vocab_size) == (ids, ids, 4)
    assert logits.weight.rows == model.trunk.vocab_size == 320


def test_an_output_matrix_of_the_draft_vocabulary_alone_is_taken_whole(tmp_path: Path) -> None:
    ids = (3, 5, 70, 319)
    head = TinyHead(draft_vocab=ids, own_output=True)
    model = load_head_plan(*write_both(tmp_path, head=head))
    logits = model.head.operations[-1]
    assert isinstance(logits, Logits)
    assert (logits.rows, model.head.token_ids, logits.weight.rows) == (None, ids, 4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("ids", [None, (1, 2, 3)])
def test_a_new_head_has_the_shapes_of_a_finished_one(
    family: str, ids: tuple[int, ...] | None, tmp_path: Path
) -> None:
    trunk, file = write_both(tmp_path, family, TinyHead(draft_vocab=ids))
    trunk_plan, head_plan, shapes = new_head_plan(trunk, token_ids=ids)
    found = {name: tensor.shape for name, tensor in file.tensors.items() if "vocab" not in name}
    assert shapes == found
    model = load_head_plan(trunk, file)
    assert (trunk_plan, head_plan) == (model.trunk, model.head)


# --- How many blocks the trunk has -----------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("blocks", "layers", "parts"),
    [
        (3, 1, ("trunk", "head")),  # as it should be
        (3, 0, ("trunk", "head")),  # not declared, but counted
        (2, 0, ("trunk", "head")),  # neither declared nor counted
        (3, 1, ("trunk",)),  # dropped, and still declared
        (2, 1, ("trunk",)),  # dropped and no longer counted, but still declared
        (2, 0, ("trunk",)),
        (3, 1, ("head",)),
    ],
)
def test_what_the_file_holds_counts_more_than_what_it_declares(
    family: str, blocks: int, layers: int, parts: tuple[str, ...], tmp_path: Path
) -> None:
    keys = {f"{family}.block_count": blocks, f"{family}.nextn_predict_layers": layers}
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, family, head=TinyHead(), parts=parts, metadata=keys)
    checkpoint = open_checkpoint(path)
    assert trunk_blocks(checkpoint) == 2
    if "trunk" in parts:
        assert len(load_model_plan(checkpoint).cache_layers) == 2


def test_a_head_alone_is_no_model(tmp_path: Path) -> None:
    _, file = write_both(tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"mtp-tiny\.gguf: holds a prediction head wit"):
        load_model_plan(file)


# --- Heads that do not fit -------------------------------------------------------------------


def refused(trunk: Checkpoint, head: Checkpoint) -> str:
    with pytest.raises(NextnError) as caught:
        load_head_plan(trunk, head)
    assert str(caught.value).startswith(str(head.path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("qwen2", {}, "general.architecture: a head for 'qwen2', but"),
        ("llama", {"hidden": 128, "head_dim": 32}, "embedding_length: a head for a hidden size"),
        ("llama", {"layers": 3}, "block_count: a head for a trunk of 3 blocks, but"),
        ("llama", {"vocab": 352}, "tokenizer.ggml.tokens: a head for another vocabulary"),
    ],
)
def test_a_head_for_another_trunk_is_refused(
    family: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_tiny_model(tmp_path / "tiny.gguf", "llama")
    write_tiny_head(tmp_path / "head.gguf", family, TinyHead(), **settings)
    text = refused(*(open_checkpoint(tmp_path / name) for name in ("tiny.gguf", "head.gguf")))
    assert message in text
    assert text.endswith("take a head that was made for this model")


def test_the_hash_of_the_vocabulary_is_compared(tmp_path: Path) -> None:
    trunk, file = write_both(tmp_path)
    assert len(vocabulary_hash(trunk) or "") == 64
    file.metadata["nextn.head.vocab_hash"] = vocabulary_hash(trunk)  # type: ignore[index]
    load_head_plan(trunk, file)
    file.metadata["nextn.head.vocab_hash"] = "0" * 64  # type: ignore[index]
    assert "nextn.head.vocab_hash: a head for another vocabulary" in refused(trunk, file)


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def drop(name: str) -> Change:
    return lambda _, tensors: tensors.pop(name)


def put(key: str, value: object) -> Change:
    return lambda metadata, _: metadata.update({key: value})


def only(prefix: str) -> Change:
    def change(_: dict[str, Any], tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if not name.startswith(prefix)]:
            del tensors[name]

    return change


def extra(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["blk.2.nextn.gate.weight"] = tensors["blk.2.attn_norm.weight"]


def integers(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["blk.2.nextn.enorm.weight"].block_type = tensors["blk.2.nextn.draft_vocab"].block_type


def floats(_: dict[str, Any], tensors: dict[str, Any]) -> None:
    kind = tensors["blk.2.attn_norm.weight"].block_type
    tensors["blk.2.nextn.draft_vocab"].block_type = kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("blk.2.nextn.eh_proj.weight"), "tensor blk.2.nextn.eh_proj.weight: missing; the"),
        (drop("blk.2.ffn_up.weight"), "tensor blk.2.ffn_up.weight: missing; the file is incom"),
        (only("none"), "llama.nextn_predict_layers: declares 1 block(s) of a prediction head, but"),
        (put("llama.nextn_predict_layers", 2), "llama.nextn_predict_layers: is 2; nextn runs"),
        (put("nextn.head.hidden", "mid"), "nextn.head.hidden: is 'mid', not post or pre"),
        (extra, "tensor blk.2.nextn.gate.weight: not known"),
        (integers, "tensor blk.2.nextn.enorm.weight: is a list of integers, not of weights"),
        (floats, "tensor blk.2.nextn.draft_vocab: has the block format F32, but must be I32"),
    ],
)
def test_a_head_that_is_incomplete_or_unknown_is_refused(
    change: Change, message: str, tmp_path: Path
) -> None:
    trunk, file = write_both(tmp_path, head=TinyHead(draft_vocab=range(9)))
    change(file.metadata, file.tensors)  # type: ignore[arg-type]
    assert message in refused(trunk, file)


def test_a_file_without_a_head_is_refused(tmp_path: Path) -> None:
    trunk, _ = write_both(tmp_path)
    assert "llama.nextn_predict_layers: missing; the file holds no head" in refused(trunk, trunk)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([0, 1, 320], "entry 2 is 320, but tokens are 0 to 319"),
        ([-1, 1, 2], "entry 0 is -1, but tokens are"),
        ([5, 6, 6], "token 6 occurs twice; the list must be ascending"),
        ([6, 5], "token 5 stands after a larger one; the list must be ascending"),
        ([2**31 - 1, -(2**31)], "entry 0 is 2147483647, but"),
    ],
)
def test_an_impossible_draft_vocabulary_is_refused(
    ids: list[int], message: str, tmp_path: Path
) -> None:
    trunk, file = write_both(tmp_path, head=TinyHead(draft_vocab=ids))
    text = refused(trunk, file)
    assert "tensor blk.2.nextn.draft_vocab: " in text
    assert message in text


def test_weights_that_are_nan_are_refused(tmp_path: Path) -> None:
    trunk, file = write_both(tmp_path)
    model = load_head_plan(trunk, file)
    model.check_finite()
    bad = file.tensors["blk.2.nextn.eh_proj.weight"]
    values = bad.decode().copy()
    values[3, 7] = np.nan
    bad.__dict__["_mapping"], bad.__dict__["offset"] = values.tobytes(), 0
    with pytest.raises(FileFormatError, match=r"mtp-tiny.*eh_proj.weight: block \d+ holds NaN"):
        model.check_finite()
