"""`nextn list` and `nextn pull`."""

from __future__ import annotations

import json
import re
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


def test_pull_tells_of_prediction_heads(cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(Path("/models/it.gguf"), "hf:u/r", Path("/models/mtp-it.gguf"))
    monkeypatch.setattr("nextn.files.sources.pull", lambda name, progress: source)
    assert cli("pull", "hf:u/r").stderr == "with prediction heads: /models/mtp-it.gguf\n"
    assert cli("pull", "hf:u/r").stdout == "/models/it.gguf\n"
    assert cli("pull", "hf:u/r", "--quiet").stderr == ""


def test_list_all_adds_the_models_of_other_programs(
    cli: RunCli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "a" * 40
    for variable in ("HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("HOME", str(tmp_path))
    repository = tmp_path / "HF_HUB_CACHE/models--user--repo"
    file = repository / f"snapshots/{commit}/tiny-F32.gguf"
    flat = tmp_path / "LLAMA_CACHE/tiny.gguf"
    for path in (file, flat):
        path.parent.mkdir(parents=True)
        path.symlink_to(tiny)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    (tmp_path / "OLLAMA_MODELS/manifests").mkdir(parents=True)
    (tmp_path / "OLLAMA_MODELS/manifests/broken").touch()

    assert [entry["name"] for entry in json.loads(cli("list", "--json").stdout)] == list(MODELS)
    found = json.loads(cli("list", "--all", "--json").stdout)
    assert [entry["name"] for entry in found] == [*MODELS, "hf:user/repo:F32"]
    assert found[-1]["path"] == str(file)
    assert (found[-1]["source"], found[-1]["bytes"]) == ("Hugging Face", tiny.stat().st_size)
    heading, *rows = cli("list", "--all").stdout.splitlines()
    assert heading.split() == ["NAME", "SIZE", "DOWNLOADED", "SOURCE", "DESCRIPTION"]
    assert [row.split("  ")[0] for row in rows] == [*MODELS, "hf:user/repo:F32"]

    file.unlink()
    assert json.loads(cli("list", "--all", "--json").stdout)[-1]["name"] == str(flat)
    assert cli("show", json.loads(cli("list", "--all", "--json").stdout)[-1]["name"]).exit_code == 0


def test_a_model_of_the_hub_runs_and_is_shown_by_its_listed_name(
    cli: RunCli, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub/models--user--repo"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "tiny-Q4_K_M.gguf").symlink_to(tiny)
    (snapshot / "mtp-tiny.gguf").write_bytes(b"GGUF")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("a" * 40)
    page = cli("show", "hf:user/repo").stdout
    assert "hf:user/repo:Q4_K_M" in page
    assert re.search(r"head not used  .*mtp-tiny\.gguf: .*truncated", page)
    record = json.loads(cli("show", "user/repo:q4_k_m", "--json").stdout)
    (rejected,) = record["rejected_heads"]
    assert rejected.startswith(str(snapshot / "mtp-tiny.gguf"))
    done = cli("run", "user/repo:Q4_K_M", "hello", "-n", "3", "--offline")
    assert done.exit_code == 0, done.stderr
    refused = cli("run", "hf:user/repo:Q8_0", "hello", "--offline")
    assert refused.exit_code == 2
    assert "not on this machine, and downloads are off" in refused.stderr
