from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.text.dialects import Dialect
from nextn.text.dialects.base import ReasoningMarks
from nextn.text.dialects.find import DIALECTS
from tests.text.dialects.parsing import cut, parse

THINK = ReasoningMarks("<think>", "</think>")
REASONING = [
    each if each.reasoning or each.calls.always else replace(each, reasoning=THINK)
    for each in DIALECTS
]
EACH = pytest.mark.parametrize("dialect", REASONING, ids=lambda each: each.name)

PIECES = [
    "get_weather", "now", "other", '{"city": "Rome"}', '{"name": "now", "arguments": {}}', "{", "}",
    '{"name": "get_weather", ', '"arguments": {"city": "a\\u00e9', '"parameters": {"days": -1.5e3',
    '"}', "}}", "[", "]", ", ", '"', "\\", "\n", " ", "\t\n", "a", "é€😀", "Hello, ", "<", ">", "|",
    "null", "true", "12", "0", "-", "call:", "city:", "city", "days", "functions.now:0", "function",
    "```json\n", "```", "=", "analysis", "commentary to=functions.now", " to=functions.now",
    "final", "assistant", "None", ";", "name", ' string="true">', ' string="false">', '">',
    '"name"', ":",
]  # fmt: skip


def marks_of(dialect: Dialect) -> list[str]:
    """All that a dialect looks for, and begins of it."""
    marks = set(dialect.marks(tools=True))
    marks |= {"<|call|>", "<|python_tag|>"}
    fields = vars(dialect.calls).values()
    for value in fields:
        marks |= {value} if isinstance(value, str) else set()
        marks |= {each for each in value if each} if isinstance(value, tuple) else set()
    marks.discard("")
    return sorted(marks | {mark[: len(mark) // 2] for mark in marks})


def texts(dialect: Dialect) -> st.SearchStrategy[str]:
    """Texts made of what a dialect looks for, in any order, among them whole calls."""
    whole = [
        dialect.calls.write([("get_weather", {"city": "Rome <b>", "days": 3})]),
        dialect.calls.write([("now", {}), ("get_weather", {"city": "é\n", "options": {"a": [1]}})]),
    ]
    return st.lists(
        st.sampled_from([*marks_of(dialect), *PIECES, *whole, *whole]) | st.text(max_size=3),
        max_size=14,
    ).map("".join)


@EACH
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_no_text_is_lost_however_it_is_cut(dialect: Dialect, data: st.DataObject) -> None:
    text = data.draw(texts(dialect))
    opening = data.draw(st.sampled_from(["", "<think>\n", "<|channel>thought\n"]))
    places = data.draw(st.lists(st.integers(0, max(len(text), 1)), max_size=6))
    whole = parse(dialect, text, opening=opening)
    assert whole.source == text
    assert parse(dialect, cut(text, places), opening=opening) == whole
    assert parse(dialect, list(text), opening=opening) == whole


@EACH
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_without_tools_there_are_no_calls(dialect: Dialect, data: st.DataObject) -> None:
    text = data.draw(texts(dialect))
    parsed = parse(dialect, text, tools=())
    assert parsed.source == text
    assert not parsed.calls


WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="<>|`"), max_size=12
)
ARGUMENTS = st.fixed_dictionaries(
    {"city": WORDS},
    optional={
        "days": st.integers(-(10**15), 10**15),
        "detailed": st.booleans(),
        "hours": st.lists(st.floats(-1e9, 1e9), max_size=3),
        "options": st.sampled_from([{}, {"a": [1, {"b": None}, "x y"]}, {"c": {"d": [[], {}]}}]),
    },
)
CALLS = st.lists(
    st.tuples(st.just("get_weather"), ARGUMENTS) | st.just(("now", {})), min_size=1, max_size=3
)


@EACH
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_calls_that_the_dialect_writes_are_read(dialect: Dialect, data: st.DataObject) -> None:
    calls: list[tuple[str, Any]] = data.draw(CALLS)
    before = data.draw(st.sampled_from(["", "I will look.\n\n"]))
    if dialect.name in ("llama3", "harmony"):
        before = ""
    written = before + dialect.calls.write(calls)
    parsed = parse(dialect, list(written))
    assert parsed.values == calls
    assert parsed.text == before.strip()


def test_names_of_dialects_are_their_own() -> None:
    assert len({each.name for each in DIALECTS}) == len(DIALECTS)


@pytest.mark.parametrize(
    "dialect", [each for each in REASONING if each.reasoning_marks], ids=lambda each: each.name
)
def test_the_marks_of_reasoning_are_those_that_the_parser_knows(dialect: Dialect) -> None:
    marks = dialect.reasoning_marks
    assert marks is not None
    text = f"{marks.begin}a thought{marks.end}{dialect.calls.answer_mark}an answer"
    parsed = parse(dialect, text)
    assert (parsed.reasoning.strip(), parsed.text.strip()) == ("a thought", "an answer")
