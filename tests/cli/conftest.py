from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nextn.cli import application
from tests.support.tiny_gguf import write_tiny_model

RunCli = Callable[..., Result]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama with random weights and a chat template."""
    path = tmp_path_factory.mktemp("cli") / "tiny.gguf"
    write_tiny_model(path, "llama")
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gemma3 with random weights and no chat template."""
    path = tmp_path_factory.mktemp("cli") / "base.gguf"
    write_tiny_model(path, "gemma3")
    return path


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunCli:
    """Runs a command line with an empty model cache: cli("run", path, "hello", input="...")."""
    monkeypatch.setenv("NEXTN_CACHE", str(tmp_path / "cache"))
    runner = CliRunner()

    def run(*arguments: object, input: str | bytes | None = None) -> Result:
        return runner.invoke(application, [str(one) for one in arguments], input=input)

    return run
