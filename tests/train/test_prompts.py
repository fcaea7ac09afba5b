from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextn.errors import RequestError
from nextn.prompts import Prompt
from nextn.train.prompts import favour, own_prompts, shipped_prompts

CATEGORIES = {
    "code", "structured", "qa", "summarise", "translate", "reasoning", "creative", "chat",
    "multiturn",
}  # fmt: skip


def test_shipped_prompts_cover_all_categories_and_do_not_overlap() -> None:
    training, held_out = shipped_prompts()
    assert {prompt.category for prompt in training} == CATEGORIES
    assert {prompt.category for prompt in held_out} == CATEGORIES
    assert not {prompt.last for prompt in training} & {prompt.last for prompt in held_out}


def write(path: Path, *records: object) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + "\n\n", "utf-8")
    return path


def message(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def test_own_prompts_hold_every_tenth_out(tmp_path: Path) -> None:
    records = [{"category": "mail", "messages": [message(str(n))]} for n in range(21)]
    training, held_out = own_prompts(write(tmp_path / "own.jsonl", *records))
    assert [prompt.last for prompt in held_out] == ["0", "10", "20"]
    assert [prompt.last for prompt in training] == [str(n) for n in range(21) if n % 10]
    assert {prompt.category for prompt in training} == {"mail"}


def test_a_category_need_not_be_given(tmp_path: Path) -> None:
    records = [{"messages": [message("a")]}, {"messages": [message("b")]}]
    training, _ = own_prompts(write(tmp_path / "own.jsonl", *records))
    assert [prompt.category for prompt in training] == ["own"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "is no object"),
        ({}, 'needs "messages"'),
        ({"messages": []}, 'needs "messages"'),
        ({"messages": "text"}, 'needs the strings "role" and "content"'),
        ({"messages": [message("a")], "category": 3}, 'needs "messages"'),
        ({"messages": [{"role": "user"}]}, 'needs the strings "role" and "content"'),
        ({"messages": [message("a"), message("b", "assistant")]}, "is not the user's"),
    ],
)
def test_records_of_another_form_are_refused(tmp_path: Path, record: object, reason: str) -> None:
    good = {"messages": [message("a")]}
    with pytest.raises(RequestError, match=f"own.jsonl: line 2: .*{reason}"):
        own_prompts(write(tmp_path / "own.jsonl", good, record))


def test_lines_that_are_no_json_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("{", "utf-8")
    with pytest.raises(RequestError, match="line 1: is not JSON"):
        own_prompts(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="is not UTF-8"):
        own_prompts(path)


def test_one_prompt_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds 1 prompts; at least 2"):
        own_prompts(write(tmp_path / "own.jsonl", {"messages": [message("a")]}))


def test_favoured_categories_are_taken_more_often() -> None:
    prompts = [Prompt(name, (message(name),)) for name in ("code", "chat", "qa")]
    favoured = favour(prompts, {"code": 3, "qa": 1})
    assert [prompt.category for prompt in favoured] == ["code"] * 3 + ["chat", "qa"]
    with pytest.raises(RequestError, match="no prompt of category 'cod'; use chat, code, qa"):
        favour(prompts, {"cod": 2})
