from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli
from tests.support.tiny_families import write_tiny_qwen35
from tests.support.tiny_gguf import TinyHead, write_tiny_head


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_tiny_qwen35(path)
    return path


def test_a_head_goes_out_and_comes_back(cli: RunCli, model: Path, tmp_path: Path) -> None:
    plain, head, again = (tmp_path / f"{name}.gguf" for name in ("plain", "head", "again"))
    result = cli("mtp", "detach", model, "-o", plain, "--head-output", head)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(plain), str(head)]
    assert "the head, in its own file: 1 block (from blk.4), 15 tensors" in result.stderr
    result = cli("mtp", "attach", plain, head, "-o", again)
    assert (result.exit_code, result.stdout) == (0, f"{again}\n")
    assert again.read_bytes() == model.read_bytes()
    result = cli("mtp", "extract", again, "-o", tmp_path / "same.gguf", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "same.gguf").read_bytes() == head.read_bytes()


def test_the_result_comes_as_json(cli: RunCli, model: Path, tmp_path: Path) -> None:
    result = cli("mtp", "extract", model, "-o", tmp_path / "head.gguf", "--json")
    record = json.loads(result.stdout)
    assert record["paths"] == [str(tmp_path / "head.gguf")]
    assert (record["head_path"], record["first"], record["blocks"]) == (None, 4, 1)
    assert (record["formats"], record["notes"]) == (["F32"], [])


def test_a_head_beside_a_model_leaves_it_alone_and_is_found(
    cli: RunCli, tiny: Path, tmp_path: Path
) -> None:
    trunk, head = tmp_path / "trunk.gguf", tmp_path / "head.gguf"
    trunk.write_bytes(tiny.read_bytes())
    write_tiny_head(head, "llama", TinyHead())
    result = cli("mtp", "attach", trunk, head, "--in-sidecar")
    assert result.stdout == f"{tmp_path / 'mtp-trunk.gguf'}\n"
    assert trunk.read_bytes() == tiny.read_bytes()
    assert "beside the model: mtp-trunk.gguf" in cli("show", trunk).stdout
    again = cli("mtp", "attach", trunk, head, "--in-sidecar")
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert cli("mtp", "attach", trunk, head, "--in-sidecar", "--force").exit_code == 0


def test_where_to_write_must_be_said_once(cli: RunCli, model: Path, tmp_path: Path) -> None:
    for more in ([], ["--in-sidecar", "-o", tmp_path / "out.gguf"]):
        result = cli("mtp", "attach", model, model, *more)
        assert "give either -o FILE or --in-sidecar" in result.stderr
    assert "Missing option '-o'" in cli("mtp", "extract", model).stderr
    assert "No such command 'nothing'" in cli("mtp", "nothing").stderr


def test_what_does_not_fit_is_one_line(
    cli: RunCli, model: Path, tiny: Path, tmp_path: Path
) -> None:
    result = cli("mtp", "attach", tiny, model, "-o", tmp_path / "out.gguf")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert f"{model}: does not fit {tiny}: general.architecture is 'qwen35'" in result.stderr
    assert not (tmp_path / "out.gguf").exists()
