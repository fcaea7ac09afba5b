from __future__ import annotations

import json
from pathlib import Path

from nextn.cli import convert as verb
from nextn.tools.convert import AUTOMATIC, ENCODINGS
from tests.cli.conftest import RunCli
from tests.support.safetensors_bytes import bfloat16
from tests.support.tiny_checkpoints import write_tiny_checkpoint
from tests.support.tiny_gguf import TinyHead


def test_the_verb_offers_the_types_that_there_are() -> None:
    assert [AUTOMATIC, *ENCODINGS] == list(verb.TYPES)


def test_the_page_says_what_was_written_and_what_became_of_the_head(
    cli: RunCli, tmp_path: Path
) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "model",
        "qwen3",
        head=TinyHead(),
        way="qwen",
        store=lambda name, values: {name: bfloat16(values) if values.ndim > 1 else values},
    )
    result = cli("convert", folder, tmp_path / "m.gguf", "--type", "q8_0")
    assert result.exit_code == 0, result.stderr
    assert "head          in the file: 1 block, 15 tensors" in result.stdout
    assert "stored as     BF16 (" in result.stdout
    assert "written as    Q8_0 (" in result.stdout
    result = cli("convert", folder, tmp_path / "n.gguf", "--no-head")
    assert "head          left out: 15 tensors (mtp.fc.weight, " in result.stdout
    assert "left out      mtp.fc.weight, " in result.stdout
    result = cli("convert", folder, tmp_path / "h.gguf", "--head-only", "--json")
    record = json.loads(result.stdout)
    assert record["head"] == "alone: 1 block, 15 tensors"
    assert record["tensors"] == record["head_tensors"] == 15
    shown = json.loads(cli("show", tmp_path / "m.gguf", "--json").stdout)
    assert shown["head"]["status"] == "yes"
    assert shown["used_head"] is not None


def test_contradicting_options_and_bad_folders_are_one_line(cli: RunCli, tmp_path: Path) -> None:
    result = cli("convert", tmp_path, tmp_path / "m.gguf", "--no-head", "--head-only")
    assert result.exit_code == 2
    assert "not both" in result.stderr
    result = cli("convert", tmp_path, tmp_path / "m.gguf")
    assert result.exit_code == 2
    assert "holds no safetensors file" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
