"""Importance matrices of whole models, and what quantising makes of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nextn.errors import FileFormatError, OutputError, RequestError, SourceError
from nextn.files import open_checkpoint
from nextn.files.block_encoding import encode, usable_importance
from nextn.files.imatrix import InputSquares, read_imatrix, write_imatrix
from nextn.models.head_tensors import head_tensor_names
from nextn.tools.imatrix import ImatrixSettings, make_imatrix
from nextn.tools.quantise import Settings, quantise_file
from nextn.tools.quantise.mixes import is_quantised
from tests.support.tiny_gguf import TinyHead, write_tiny_head, write_tiny_model

SIZES = {"hidden": 256, "head_dim": 64, "ffn": 512}
TEXT = "The quick brown fox jumps over the lazy dog. " * 40


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", types="F16", head=TinyHead(), **SIZES)
    return path


def test_every_matrix_of_model_and_head_has_an_entry(
    tmp_path: Path, model: Path, text: Path
) -> None:
    result = make_imatrix(model, text, tmp_path / "i.gguf", ImatrixSettings(chunk_size=100))
    found = read_imatrix(tmp_path / "i.gguf")
    with open_checkpoint(model) as checkpoint:
        matrices = {n: t.shape for n, t in checkpoint.tensors.items() if is_quantised(n, t.shape)}
        assert head_tensor_names(matrices) <= found.entries.keys()
    assert found.entries.keys() == matrices.keys()
    for name, entry in found.entries.items():
        assert entry.sums.shape == (1, matrices[name][-1])
        # The embedding is the output of both trunk and head.
        times = 2 if name == "token_embd.weight" else 1
        assert entry.counts.tolist() == [times * result.tokens]
    assert result.tokens == 100 * found.chunk_count
    assert result.head is not None
    assert found.datasets == ["text.txt"]


def test_executors_agree(tmp_path: Path, model: Path, text: Path) -> None:
    settings = ImatrixSettings(chunk_size=64, chunks=3)
    for backend in ("cpu", "reference"):
        make_imatrix(model, text, tmp_path / backend, settings, backend=backend)
    native, reference = (read_imatrix(tmp_path / backend) for backend in ("cpu", "reference"))
    for name, entry in reference.entries.items():
        error = np.abs(native.entries[name].sums - entry.sums).max() / entry.sums.max()
        assert error < 0.03, name


def test_the_head_can_be_left_out(tmp_path: Path, model: Path, text: Path) -> None:
    result = make_imatrix(model, text, tmp_path / "i.gguf", ImatrixSettings(head=None))
    assert result.head is None
    assert not head_tensor_names(result.matrix.entries)


def test_no_input_is_written_over(tmp_path: Path, text: Path) -> None:
    model, head = tmp_path / "model.gguf", tmp_path / "head.gguf"
    write_tiny_model(model, "llama", types="F16", **SIZES)
    write_tiny_head(head, "llama", TinyHead(), types="F16", **SIZES)
    result = make_imatrix(model, text, tmp_path / "i.gguf", ImatrixSettings(head=str(head)))
    assert head_tensor_names(result.matrix.entries)
    for path in (model, text, head):
        before = path.read_bytes()
        with pytest.raises(OutputError, match="one of the inputs"):
            make_imatrix(model, text, path, ImatrixSettings(head=str(head)))
        assert path.read_bytes() == before


def test_a_piece_of_the_text_begins_anew(tmp_path: Path, model: Path, text: Path) -> None:
    # Reading the same piece twice counts everything twice.
    sums = []
    for number, repeated in enumerate((1, 2)):
        path = tmp_path / f"{number}.txt"
        path.write_text("abcdefgh" * 8 * repeated)
        settings = ImatrixSettings(chunk_size=32)
        sums.append(make_imatrix(model, path, tmp_path / "i.gguf", settings).matrix)
    assert sums[1].chunk_count == 2 * sums[0].chunk_count
    for name, entry in sums[0].entries.items():
        np.testing.assert_allclose(sums[1].entries[name].sums, 2 * entry.sums, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ImatrixSettings(chunk_size=8), "chunks of 8 tokens"),
        (ImatrixSettings(chunk_size=4096), "chunks of 4096 tokens"),
        (ImatrixSettings(chunks=0), "0 chunks"),
    ],
)
def test_impossible_settings_are_refused(
    tmp_path: Path, model: Path, text: Path, settings: ImatrixSettings, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        make_imatrix(model, text, tmp_path / "i.gguf", settings)


def test_texts_that_cannot_serve_are_refused(tmp_path: Path, model: Path) -> None:
    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("too short")
    binary.write_bytes(b"abc\xff")
    with pytest.raises(RequestError, match="needs at least 32"):
        make_imatrix(model, short, tmp_path / "i.gguf")
    with pytest.raises(SourceError, match="byte 3 is not valid UTF-8"):
        make_imatrix(model, binary, tmp_path / "i.gguf")
    with pytest.raises(SourceError, match="absent"):
        make_imatrix(model, tmp_path / "absent.txt", tmp_path / "i.gguf")
    assert not (tmp_path / "i.gguf").exists()


def test_quantising_weighs_each_column_by_its_entry(
    tmp_path: Path, model: Path, text: Path
) -> None:
    matrix = make_imatrix(model, text, tmp_path / "i.gguf").matrix
    output = tmp_path / "out.gguf"
    result = quantise_file(
        model, output, Settings("Q4_K_M"), imatrix=tmp_path / "i.gguf", threads=2
    )
    with open_checkpoint(model) as source, open_checkpoint(output) as made:
        for plan in result.plans:
            if plan.changes:
                mean = matrix.entries[plan.name].mean(0)
                assert mean is not None
                values = source.tensors[plan.name].decode()
                expected = encode(plan.target, values, usable_importance(mean))
                assert made.tensors[plan.name].data.tobytes() == expected.tobytes(), plan.name
        assert made.metadata["quantize.imatrix.file"] == "i.gguf"
        assert made.metadata["quantize.imatrix.dataset"] == "text.txt"
        assert made.metadata["quantize.imatrix.entries_count"] == len(matrix.entries)
        assert made.metadata["quantize.imatrix.chunks_count"] == matrix.chunk_count


def test_the_importance_matrix_of_another_model_is_refused(
    tmp_path: Path, model: Path, text: Path
) -> None:
    matrix = make_imatrix(model, text, tmp_path / "i.gguf").matrix
    wide, narrow = tmp_path / "wide.gguf", tmp_path / "narrow.gguf"
    write_tiny_model(wide, "llama", types="F16", **{**SIZES, "ffn": 768})
    with pytest.raises(FileFormatError, match=r"ffn_down.*another model"):
        quantise_file(wide, tmp_path / "out.gguf", Settings("Q8_0"), imatrix=matrix.path)
    strange = {f"x.{name}": entry for name, entry in matrix.entries.items()}
    write_imatrix(replace(matrix, path=narrow, entries=strange))
    with pytest.raises(FileFormatError, match="another model"):
        quantise_file(model, tmp_path / "out.gguf", Settings("Q8_0"), imatrix=narrow)
    with pytest.raises(FileFormatError, match="another kind of file"):
        quantise_file(model, tmp_path / "out.gguf", Settings("Q8_0"), imatrix=model)
    assert not (tmp_path / "out.gguf").exists()


def test_entries_that_are_missing_or_not_used_are_told(
    tmp_path: Path, model: Path, text: Path
) -> None:
    matrix = make_imatrix(model, text, tmp_path / "i.gguf").matrix
    entries = dict(matrix.entries)
    entry = entries.pop("blk.1.ffn_up.weight")
    entries["blk.7.ffn_up.weight"] = InputSquares(entry.sums, entry.counts)
    write_imatrix(replace(matrix, entries=entries))
    notes = quantise_file(model, None, Settings("Q4_K_S"), imatrix=matrix.path).notes
    assert any("blk.1.ffn_up.weight; their columns count alike" in note for note in notes)
    assert any("1 entries" in note for note in notes)
