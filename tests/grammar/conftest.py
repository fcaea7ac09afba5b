from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nextn
from nextn.grammar.compiler import GrammarCompiler
from tests.support.tiny_gguf import TinyHead, write_tiny_model


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, nextn.Model]]:
    """A random model of each kind of tokenizer, the first with a head that is often right."""
    folder: Path = tmp_path_factory.mktemp("models")
    head = TinyHead(noise=0.4)
    write_tiny_model(
        folder / "bpe.gguf", "llama", heads=2, head_dim=32, layers=1, tied=False, head=head
    )
    write_tiny_model(folder / "spm.gguf", "gemma3", chat_template=None)
    loaded = {
        name: nextn.load(folder / f"{name}.gguf", threads=1, context=512) for name in ("bpe", "spm")
    }
    yield loaded
    for model in loaded.values():
        model.close()


@pytest.fixture(scope="session")
def model(models: dict[str, nextn.Model]) -> nextn.Model:
    return models["bpe"]


@pytest.fixture(scope="session")
def compiler(model: nextn.Model) -> GrammarCompiler:
    return model.grammars
