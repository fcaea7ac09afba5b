from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nextn
from nextn.errors import NextnError, SourceError
from nextn.files import open_checkpoint
from nextn.heads import find_head
from nextn.models.nextn_head import vocabulary_hash
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

NAMED = {"nextn.head.trunk": "Tiny llama"}


@pytest.fixture
def trunk(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama")
    return path


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the folder of the heads that come with nextn."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr("nextn.heads.find._SHIPPED_FOLDER", folder)
    return folder


def search(path: Path, head: Any = "auto", **settings: Any) -> Any:
    return find_head(open_checkpoint(path), head, **settings)


def test_a_model_without_a_head_has_none(trunk: Path, shipped: Path) -> None:
    found = search(trunk)
    assert (found.model, found.found, found.rejected) == (None, None, ())


def test_heads_are_found_in_order(tmp_path: Path, shipped: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama", head=TinyHead())
    write_tiny_head(tmp_path / "mtp-other.gguf", "llama", TinyHead(), metadata=NAMED)
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead(draft_vocab=range(9)))
    write_tiny_head(shipped / "any.gguf", "llama", TinyHead(), metadata=NAMED)
    assert (search(path).found.origin, search(path).found.path) == ("inside", path)
    write_tiny_model(path, "llama")
    found = search(path).found
    # The file that is called like the model comes before one of another name.
    assert (found.origin, found.path) == ("beside", tmp_path / "mtp-tiny.gguf")
    assert (found.draft_vocabulary, found.blocks, found.formats) == (9, 1, ("F32",))
    (tmp_path / "mtp-tiny.gguf").unlink()
    assert search(path).found.path == tmp_path / "mtp-other.gguf"
    (tmp_path / "mtp-other.gguf").unlink()
    found = search(path).found
    assert (found.origin, found.path) == ("shipped", shipped / "any.gguf")
    assert search(path, None).found is None


def test_a_head_can_be_named(trunk: Path, shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write_tiny_head(folder / "my.gguf", "llama", TinyHead(hidden_kind="pre"))
    for name in (folder / "my.gguf", str(folder / "my.gguf")):
        found = search(trunk, name).found
        assert (found.origin, found.path, found.hidden_kind) == ("given", folder / "my.gguf", "pre")


def test_a_published_head_comes_first(trunk: Path, shipped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    folder.mkdir()
    write_tiny_head(folder / "head.gguf", "llama", TinyHead())
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead())
    found = search(trunk, published=folder / "head.gguf").found
    assert (found.origin, found.path) == ("beside", folder / "head.gguf")


def test_a_shipped_head_is_for_one_vocabulary_and_one_name(trunk: Path, shipped: Path) -> None:
    good = vocabulary_hash(open_checkpoint(trunk))
    for name, value, found in (
        ("Tiny llama", good, True),
        ("Another", good, False),
        ("Tiny llama", "0" * 64, False),
    ):
        keys = {"nextn.head.trunk": name, "nextn.head.vocab_hash": value}
        write_tiny_head(shipped / "head.gguf", "llama", TinyHead(), metadata=keys)
        assert (search(trunk).found is not None) == found


def test_heads_for_other_models_in_the_same_folder_are_passed_over(
    trunk: Path, shipped: Path, tmp_path: Path
) -> None:
    write_tiny_head(tmp_path / "mtp-a.gguf", "qwen2", TinyHead())
    keys = {"nextn.head.trunk": "Another model"}
    write_tiny_head(tmp_path / "mtp-b.gguf", "llama", TinyHead(), layers=5, metadata=keys)
    (tmp_path / "mtp-c.gguf").write_bytes(b"rubbish")
    found = search(trunk)
    assert (found.found, found.rejected) == (None, ())


def test_a_head_that_does_not_fit_is_told_of_and_left_out(
    trunk: Path, shipped: Path, tmp_path: Path
) -> None:
    write_tiny_head(tmp_path / "mtp-tiny.gguf", "llama", TinyHead(), layers=5)
    write_tiny_head(shipped / "good.gguf", "llama", TinyHead(), metadata=NAMED)
    found = search(trunk)
    assert found.found.origin == "shipped"
    (reason,) = found.rejected
    assert "mtp-tiny.gguf: llama.block_count: a head for a trunk of 5 blocks" in reason


def test_a_head_that_is_declared_but_missing_is_told_of(tmp_path: Path, shipped: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama", head=TinyHead(), parts=("trunk",))
    found = search(path)
    assert found.found is None
    assert "declares 1 block(s) of a prediction head, but the file holds no" in found.rejected[0]


def test_a_head_with_nan_is_left_out_and_an_error_if_it_was_named(
    trunk: Path, shipped: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mtp-tiny.gguf"
    weights = write_tiny_head(path, "llama", TinyHead())
    data = path.read_bytes()
    values = weights["blk.2.ffn_up.weight"]
    bad = values.copy()
    bad[3, 3] = np.nan
    path.write_bytes(data.replace(values.tobytes(), bad.tobytes()))
    assert "blk.2.ffn_up.weight: block 195 holds NaN" in search(trunk).rejected[0]
    with pytest.raises(NextnError, match=r"ffn_up\.weight: block 195 holds NaN"):
        search(trunk, path)


def test_a_missing_file_is_an_error(trunk: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.gguf"):
        search(trunk, tmp_path / "none.gguf")


def test_a_loaded_model_says_what_its_head_is(tmp_path: Path, shipped: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama", head=TinyHead())
    with nextn.load(path) as model:
        assert model.head is not None
        assert (model.head.origin, model.executor.has_head) == ("inside", True)
    with nextn.load(path, head=None) as model:
        assert (model.head, model.executor.has_head) == (None, False)
    write_tiny_model(tmp_path / "plain.gguf", "llama")
    with pytest.raises(NextnError, match="holds no head"):
        nextn.load(path, head=tmp_path / "plain.gguf")
