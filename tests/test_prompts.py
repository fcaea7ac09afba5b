from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nextn import prompts
from nextn.errors import FileFormatError, RequestError
from nextn.prompts import CATEGORIES, Prompt, load

_LONG = 8


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _text(prompt: Prompt) -> str:
    return "\n".join(message["content"] for message in prompt.messages)


def _ngrams(prompt: Prompt, length: int = _LONG) -> Iterator[tuple[str, ...]]:
    for message in prompt.messages:
        words = _words(message["content"])
        yield from (tuple(words[i : i + length]) for i in range(len(words) - length + 1))


@pytest.mark.parametrize(("which", "least"), [("evaluation", 24), ("seed", 240)])
def test_every_category_has_its_prompts(which: prompts.PromptSet, least: int) -> None:
    loaded = load(which)

    counts = Counter(prompt.category for prompt in loaded)
    assert counts.keys() == set(CATEGORIES)
    assert min(counts.values()) >= least
    assert [len(prompt.messages) > 1 for prompt in loaded] == [
        prompt.category == "multiturn" for prompt in loaded
    ]


def test_all_prompts_are_different() -> None:
    texts = [" ".join(_words(_text(prompt))) for prompt in load("evaluation") + load("seed")]

    assert len(set(texts)) == len(texts)


def test_prompts_of_a_set_are_not_one_template() -> None:
    counts = Counter(
        gram for prompt in load("evaluation") + load("seed") for gram in set(_ngrams(prompt))
    )

    assert not [gram for gram, count in counts.items() if count > 1]


def test_no_evaluation_prompt_shares_a_long_passage_with_a_seed_prompt() -> None:
    seeds = {gram for prompt in load("seed") for gram in _ngrams(prompt)}
    shared = {gram for prompt in load("evaluation") for gram in _ngrams(prompt) if gram in seeds}

    assert len(seeds) > 1000
    assert not shared


def test_no_seed_prompt_asks_for_what_an_evaluation_prompt_asks_for() -> None:
    asked = [set(_words(prompt.last)) for prompt in load("evaluation")]

    alike = [
        prompt.last
        for prompt in load("seed")
        for words in asked
        if len(words & set(_words(prompt.last))) > 0.7 * len(words | set(_words(prompt.last)))
    ]

    assert not alike


def test_categories_can_be_chosen() -> None:
    chosen = load("evaluation", ("chat", "code", "chat"))

    assert [prompt.category for prompt in chosen] == ["chat"] * 24 + ["code"] * 24


def test_unknown_names_are_refused() -> None:
    with pytest.raises(RequestError, match="there is no prompt category 'poetry'; use code, "):
        load("seed", ["poetry"])
    with pytest.raises(RequestError, match="there is no prompt set 'test'; use evaluation or seed"):
        load("test")  # type: ignore[arg-type]


def _record(*roles: str, content: object = "Hello", category: str = "qa") -> str:
    messages = [{"role": role, "content": content} for role in roles]
    return json.dumps({"category": category, "messages": messages})


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the seed prompts of the category qa."""

    def write(text: str) -> None:
        folder = tmp_path / "train" / "prompts"
        folder.mkdir(parents=True)
        (folder / "qa.jsonl").write_text(text, encoding="utf-8")

    monkeypatch.setattr(prompts, "files", lambda _package: tmp_path)
    return write


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: is no JSON"),
        ("[]", 'line 2: must be an object with "category" and "messages"'),
        (_record("user", category="chat"), "line 2: category must be 'qa'"),
        (_record("user", "assistant"), "line 2: messages must be a list that ends with the user's"),
        (_record(), "line 2: messages must be a list that ends with the user's"),
        (_record("assistant"), "line 2: message 1 must have the role 'user'"),
        (_record("user", "user", "user"), "line 2: message 2 must have the role 'assistant'"),
        (_record("user", content=" "), "line 2: message 1 must have"),
        (_record("user", content=7), "line 2: message 1 must have"),
    ],
)
def test_broken_files_are_named(write: Callable[[str], None], line: str, complaint: str) -> None:
    write(f"{_record('user')}\n{line}\n")

    with pytest.raises(FileFormatError, match=re.escape(f"qa.jsonl: {complaint}")):
        load("seed", ["qa"])


def test_a_missing_file_is_named(write: Callable[[str], None]) -> None:
    write(_record("user"))

    assert load("seed", ["qa"]) == [Prompt("qa", ({"role": "user", "content": "Hello"},))]
    with pytest.raises(FileFormatError, match=r"chat\.jsonl: prompts: cannot be read"):
        load("seed", ["chat"])
