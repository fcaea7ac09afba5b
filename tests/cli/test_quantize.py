from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextn.files import open_checkpoint
from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import TinyHead, write_tiny_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_tiny_model(path, "llama", types="F16", head=TinyHead())
    return path


def test_it_writes_a_file_and_says_what_became_of_the_head(
    cli: RunCli, model: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.gguf"
    result = cli("quantize", model, output, "q4_0", "-t", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(output)]
    assert "the prediction head is kept" in result.stderr
    assert "bits per weight" in result.stderr
    with open_checkpoint(output) as made:
        assert made.tensors["blk.0.attn_q.weight"].block_type.name == "Q4_0"


def test_a_dry_run_shows_every_tensor_and_writes_nothing(
    cli: RunCli, model: Path, tmp_path: Path
) -> None:
    result = cli(
        "quantize", model, tmp_path / "out.gguf", "Q4_K_M", "--dry-run", "--tensor-type", "_up=Q8_0"
    )
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert "Q5_0" in rows["blk.0.attn_q.weight"]
    assert "rows of 64 are not blocks of Q4_K" in rows["blk.0.attn_q.weight"]
    assert "asked for by _up" in rows["blk.1.ffn_up.weight"]
    assert "same" in rows["blk.0.attn_norm.weight"]
    assert not (tmp_path / "out.gguf").exists()


def test_json_has_every_tensor(cli: RunCli, model: Path, tmp_path: Path) -> None:
    result = cli("quantize", model, tmp_path / "out.gguf", "Q8_0", "--json", "-q")
    record = json.loads(result.stdout)
    with open_checkpoint(tmp_path / "out.gguf") as made:
        found = {tensor["name"]: (tensor["to"], tensor["bytes"]) for tensor in record["tensors"]}
        assert found == {
            name: (tensor.block_type.name, tensor.nbytes) for name, tensor in made.tensors.items()
        }
    assert record["path"] == str(tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Q4_K_X"], "type 'Q4_K_X' is unknown"),
        (["Q8_0", "--tensor-type", "attn"], "not PATTERN=FORMAT"),
        (["Q8_0", "--imatrix", "absent.gguf"], "absent.gguf"),
        (["Q8_0", "-t", "9999"], "threads"),
    ],
)
def test_bad_arguments_are_one_line(
    cli: RunCli, model: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = cli("quantize", model, tmp_path / "out.gguf", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.gguf").exists()


def test_what_is_quantised_already_needs_a_permission(cli: RunCli, tmp_path: Path) -> None:
    model, output = tmp_path / "q8.gguf", tmp_path / "out.gguf"
    write_tiny_model(model, "llama", types="Q8_0")
    result = cli("quantize", model, output, "Q4_0")
    assert result.exit_code == 2
    assert "--allow-requantize" in result.stderr
    assert cli("quantize", model, output, "Q4_0", "--allow-requantize").exit_code == 0
