"""The prompts that a head is trained on: those that come with nextn, or a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nextn.errors import RequestError
from nextn.prompts import CATEGORIES, Prompt, load

_HELD_OUT_EVERY = 10


def shipped_prompts() -> tuple[list[Prompt], list[Prompt]]:
    """The prompts that come with nextn: for training, and those held out, of the benchmark."""
    return load("seed", sorted(CATEGORIES)), load("evaluation", sorted(CATEGORIES))


def own_prompts(path: Path) -> tuple[list[Prompt], list[Prompt]]:
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


def favour(prompts: Sequence[Prompt], weights: Mapping[str, int]) -> list[Prompt]:
    """Take the prompts of some categories more often, so that more texts are of that kind.

    Args:
        prompts: those to train on.
        weights: how often each prompt of a category is taken; once if it is not named.

    Raises:
        RequestError: there is no prompt of such a category.
    """
    known = sorted({prompt.category for prompt in prompts})
    for category in weights:
        if category not in known:
            raise RequestError(
                f"--favour: there is no prompt of category {category!r}; use {', '.join(known)}"
            )
    return [prompt for prompt in prompts for _ in range(weights.get(prompt.category, 1))]


def _parse(file: Path) -> Iterable[Prompt]:
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


def _checked(record: Any, where: str) -> Prompt:
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
    return Prompt(category, tuple(messages))
