"""`nextn list` and `nextn pull`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextn.files.sources import MODELS, ModelSource
from tests.cli.conftest import RunCli


def test_every_model_with_a_name_is_listed(cli: RunCli) -> None:
    entries = json.loads(cli("list", "--json").stdout)
    assert [entry["name"] for entry in entries] == list(MODELS)
    assert not any(entry["downloaded"] for entry in entries)
    page = cli("list").stdout
    for name, model in MODELS.items():
        assert name in page
        assert model.description in page


def test_what_was_downloaded_is_listed_with_its_path(cli: RunCli, tmp_path: Path) -> None:
    named = tmp_path / "cache/models/smollm2" / MODELS["smollm2"].file_name
    package = tmp_path / "cache/models/pypi/some-model==1.0/model.gguf"
    for path in (named, package):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"GGUF")
    entries = {entry["name"]: entry for entry in json.loads(cli("list", "--json").stdout)}
    assert entries["smollm2"]["path"] == str(named)
    assert entries["smollm2"]["downloaded"]
    assert not entries["gemma3-270m"]["downloaded"]
    assert entries["pypi:some-model==1.0"]["path"] == str(package)
    assert entries["pypi:some-model==1.0"]["bytes"] == 4
    assert "pypi:some-model==1.0" in cli("list").stdout


def test_pull_shows_progress_and_licence_and_prints_the_path(
    cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pull(name: str, progress: object) -> ModelSource:
        assert callable(progress)
        progress(f"downloading {name}", 5_000_000, 10_000_000)
        progress(f"downloading {name}", 10_000_000, 10_000_000)
        return ModelSource(Path("/models/it.gguf"), name)

    monkeypatch.setattr("nextn.files.sources.pull", pull)
    result = cli("pull", "smollm2")
    assert result.stdout == "/models/it.gguf\n"
    assert result.stderr.splitlines() == [
        "smollm2: licence Apache-2.0",
        "downloading smollm2: 5.00 MB of 10.0 MB",
        "downloading smollm2: 10.0 MB of 10.0 MB",
    ]
    assert cli("pull", "smollm2", "--quiet").stderr == ""
