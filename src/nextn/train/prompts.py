"""Seed prompts: conversations by category, which the trunk answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

from nextn.errors import RequestError

_HELD_OUT_EVERY = 10


class _File(Protocol):
    @property
    def name(self) -> str: ...

    def read_text(self, encoding: str) -> str: ...


@dataclass(frozen=True, slots=True)
class SeedPrompt:
    """A conversation that waits for an answer.

    Attributes:
        category: kind of task, such as "code".
        messages: records with `role` and `content`; the last is the user's.
    """

    category: str
    messages: tuple[dict[str, str], ...]

    @property
    def last(self) -> str:
        """What the user said last."""
        return self.messages[-1]["content"]


def shipped_prompts() -> tuple[list[SeedPrompt], list[SeedPrompt]]:
    """The prompts that come with nextn: for training, and those held out, of the benchmark."""
    training = _read_folder("nextn.train", "prompts")
    held_out = _read_folder("nextn.bench", "prompts")
    return training, held_out


def own_prompts(path: Path) -> tuple[list[SeedPrompt], list[SeedPrompt]]:
    """Prompts of a JSONL file: for training, and every tenth held out.

    Raises:
        RequestError: the file is not of this form, or holds fewer than two prompts.
        OSError: it cannot be read.
    """
    prompts = list(_parse(path))
    if len(prompts) < 2:
        raise RequestError(f"{path}: holds {len(prompts)} prompts; at least 2 are needed")
    held_out = prompts[::_HELD_OUT_EVERY]
    training = [prompt for number, prompt in enumerate(prompts) if number % _HELD_OUT_EVERY]
    return training, held_out


def _read_folder(package: str, folder: str) -> list[SeedPrompt]:
    entries = sorted(files(package).joinpath(folder).iterdir(), key=lambda entry: entry.name)
    found = [p for entry in entries if entry.name.endswith(".jsonl") for p in _parse(entry)]
    if not found:
        raise RequestError(f"{package}/{folder}: holds no prompts; reinstall nextn")
    return found


def _parse(file: _File) -> Iterable[SeedPrompt]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: is not UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise RequestError(f"{file}: line {number}: is not JSON: {error}") from error
        yield _checked(record, f"{file}: line {number}")


def _checked(record: Any, where: str) -> SeedPrompt:
    if not isinstance(record, dict):
        raise RequestError(f"{where}: is no object")
    category, messages = record.get("category", "own"), record.get("messages")
    if not isinstance(category, str) or not isinstance(messages, Sequence) or not messages:
        raise RequestError(f'{where}: needs "messages", and may have a "category"')
    for message in messages:
        is_message = isinstance(message, dict) and all(
            isinstance(message.get(key), str) for key in ("role", "content")
        )
        if not is_message:
            raise RequestError(f'{where}: a message needs the strings "role" and "content"')
    if messages[-1]["role"] != "user":
        raise RequestError(f"{where}: the last message is not the user's")
    return SeedPrompt(category, tuple(messages))
