"""Small texts of a tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nextn.files import Checkpoint, open_checkpoint
from nextn.prompts import Prompt
from nextn.train.settings import DataSettings
from tests.support.tiny_gguf import write_tiny_model

PROMPTS = [
    Prompt(category, ({"role": "user", "content": f"{category} {number}"},))
    for category in ("code", "chat")
    for number in range(4)
]
HELD_OUT = [Prompt("code", ({"role": "user", "content": f"test {n}"},)) for n in range(3)]

Settings = Callable[..., DataSettings]


@pytest.fixture
def tiny(tmp_path: Path) -> Checkpoint:
    write_tiny_model(tmp_path / "tiny.gguf", "llama", seed=3)
    return open_checkpoint(tmp_path / "tiny.gguf")


def data_settings(**changes: object) -> DataSettings:
    given = {"tokens": 400, "most_written": 24, "free_share": 0.3, "sequences": 4, "held_out": 3}
    return DataSettings(**{**given, **changes})  # type: ignore[arg-type]
