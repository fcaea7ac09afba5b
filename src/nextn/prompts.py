"""Prompts in the project's own words, by task: those that heads are trained on, and others.

They lie in the package as JSON lines, one file per category, one prompt per line:
`{"category": "qa", "messages": [{"role": "user", "content": "..."}]}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeAlias

from nextn.errors import FileFormatError, RequestError

CATEGORIES = (
    "code",
    "structured",
    "qa",
    "summarise",
    "translate",
    "reasoning",
    "creative",
    "chat",
    "multiturn",
)
"""What is asked for; "multiturn" are conversations of several turns about anything."""

PromptSet: TypeAlias = Literal["evaluation", "seed"]
"""Prompts to measure with, and prompts from which the texts for training are made.

No prompt is in both, nor shares more than a few words with one of the other set.
"""

_FOLDERS: dict[PromptSet, str] = {"evaluation": "bench/prompts", "seed": "train/prompts"}
_ROLES = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One conversation, up to where the model is to answer.

    Attributes:
        category: one of `CATEGORIES`, or one of a user's own.
        messages: as `Model.chat` takes them; the last is the user's. In the shipped prompts, the
            user's and the model's in turn, from the user's on.
    """

    category: str
    messages: tuple[dict[str, str], ...]

    @property
    def last(self) -> str:
        """What the user said last."""
        return self.messages[-1]["content"]


def load(which: PromptSet, categories: Iterable[str] = CATEGORIES) -> list[Prompt]:
    """Read the prompts of some categories.

    Args:
        which: the set.
        categories: which ones, without repetition; all by default.

    Returns:
        The prompts, category by category in the order asked for.

    Raises:
        RequestError: a set or category that does not exist.
        FileFormatError: a file that was changed to something else.
    """
    if which not in _FOLDERS:
        raise RequestError(f"there is no prompt set {which!r}; use {' or '.join(_FOLDERS)}")
    wanted = list(dict.fromkeys(categories))
    for category in wanted:
        if category not in CATEGORIES:
            raise RequestError(
                f"there is no prompt category {category!r}; use {', '.join(CATEGORIES)}"
            )
    folder = files("nextn").joinpath(_FOLDERS[which])
    return [
        prompt
        for category in wanted
        for prompt in _read(folder.joinpath(f"{category}.jsonl"), category)
    ]


def _read(file: Traversable, category: str) -> list[Prompt]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(file, "prompts", f"cannot be read: {error}") from error
    return [_parse(file, number, line, category) for number, line in enumerate(lines, 1)]


def _parse(file: Traversable, number: int, line: str, category: str) -> Prompt:
    where = f"line {number}"
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        raise FileFormatError(file, where, f"is no JSON: {error}") from error
    if not isinstance(record, dict) or record.keys() != {"category", "messages"}:
        raise FileFormatError(file, where, 'must be an object with "category" and "messages"')
    if record["category"] != category:
        raise FileFormatError(file, where, f"category must be {category!r}")
    messages = record["messages"]
    if not isinstance(messages, list) or len(messages) % 2 == 0:
        raise FileFormatError(file, where, "messages must be a list that ends with the user's")
    for index, message in enumerate(messages):
        role = _ROLES[index % 2]
        if (
            not isinstance(message, dict)
            or message.keys() != {"role", "content"}
            or message["role"] != role
            or not isinstance(message["content"], str)
            or not message["content"].strip()
        ):
            raise FileFormatError(
                file, where, f'message {index + 1} must have the role {role!r} and a "content"'
            )
    return Prompt(category, tuple(messages))
