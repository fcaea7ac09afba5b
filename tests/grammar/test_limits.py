"""Hostile schemas, expressions and grammars are refused, or stay cheap; nothing crashes."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextn.errors import RequestError
from nextn.grammar import specification_from_settings
from nextn.grammar.compiler import GrammarCompiler, check_specification
from nextn.sampling import ConstraintError

MOST_SECONDS = 20.0
"""Of the processor. The limits aim at less than one; without them, these take hours."""


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def patterns(count: int, together: str) -> dict[str, Any]:
    return {together: [{"type": "string", "pattern": f".*a.{{{k}}}b.*"} for k in range(count)]}


CHAIN = "\n".join(f'r{i}: "x" r{i + 1} | r{i + 1}' for i in range(2000))

HOSTILE: dict[str, dict[str, Any]] = {
    "deep schema": {"json_schema": nested(5000)},
    "deep JSON": {"json_schema": '{"a":' * 100_000 + "1" + "}" * 100_000},
    "long schema": {"json_schema": {"enum": ["x" * 200_000, "y" * 200_000]}},
    "many patterns": {"json_schema": patterns(40, "allOf")},
    "many patterns in a grammar": {
        "grammar": 'start: %json {"allOf": ['
        + ",".join(f'{{"\\u0070attern": ".*a.{{{k}}}b.*"}}' for k in range(40))
        + "]}"
    },
    "many intersections": {
        "grammar": "start: A\nA: " + " & ".join(f"/.*a.{{{k}}}b.*/" for k in range(20, 60))
    },
    "merged objects": {
        "json_schema": {
            "allOf": [
                {"anyOf": [{"properties": {f"a{i}": {"const": j}}} for j in range(3)]}
                for i in range(14)
            ]
        }
    },
    "large multiple": {"json_schema": {"type": "integer", "multipleOf": 999999937}},
    "deep expression": {"regex": "(" * 8000 + "a" + ")" * 8000},
    "long expression": {"regex": "ab" * 200_000},
    "deep grammar": {"grammar": "start: " + "(" * 30_000 + '"a"' + ")" * 30_000},
    "deep GBNF": {"grammar": "root ::= " + "(" * 8000 + '"a"' + ")" * 8000},
    "long GBNF": {"grammar": 'root ::= "a"\n' * 100_000},
    "doubling terminals": {
        "grammar": "start: A0\n" + "".join(f"A{i}: A{i + 1} A{i + 1}\n" for i in range(40))
        + 'A40: "y"'
    },
    "no text": {"grammar": "start: start"},
    "no text at all": {"grammar": "root ::= root"},
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_forms_are_refused_in_time(compiler: GrammarCompiler, name: str) -> None:
    started = time.process_time()
    with pytest.raises(RequestError) as caught:
        compiler.from_settings(HOSTILE[name])
    assert time.process_time() - started < MOST_SECONDS
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


LARGE: dict[str, dict[str, Any]] = {
    "ten thousand values": {"json_schema": {"enum": [f"value {i}" for i in range(10_000)]}},
    "four hundred optional properties": {
        "json_schema": {"properties": {f"p{i}": {"type": "string"} for i in range(400)}}
    },
    "long string": {"json_schema": {"type": "string", "minLength": 10**6}},
    "long array": {"json_schema": {"type": "array", "minItems": 10**9}},
    "long repetition": {"regex": "a{1000000000}"},
    "repeated repetition": {"regex": "(a{1000}){1000}"},
    "backtracking": {"regex": "(x+x+)+y"},
    "state explosion": {"regex": ".*a.{400}"},
    "ambiguous grammar": {"grammar": 'start: a\na: a a | "x" | "xx" | '},
    "repeated rules": {"grammar": 'start: (((b{0,1000}){0,1000}){0,1000})\nb: "c"'},
    "long chain": {"grammar": f'start: r0\n{CHAIN}\nr2000: "y"'},
    "many GBNF repetitions": {"grammar": 'root ::= "a"{100000000}'},
}


@pytest.mark.parametrize("name", LARGE)
def test_no_token_of_a_large_form_takes_long(compiler: GrammarCompiler, name: str) -> None:
    started = time.process_time()
    # It may be refused at once, or the text may end with an error; others go on.
    with suppress(RequestError, ConstraintError):
        source = compiler.from_settings(LARGE[name])
        assert source is not None
        constraint = source.start()
        random = np.random.default_rng(0)
        for _ in range(40):
            constraint.forced()
            mask = constraint.mask()
            assert mask is not None
            constraint.accept(
                int(random.choice(np.flatnonzero(np.unpackbits(mask, bitorder="little"))))
            )
    assert time.process_time() - started < MOST_SECONDS


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["regex", "grammar", "json_schema"]),
    st.one_of(
        st.text(max_size=40),
        st.text('start: "a|b()[]{}*+?/\\&~%<>@\n^$.,1-9Aroot=', max_size=60),
    ),
)
def test_any_text_gives_a_constraint_or_an_error_of_one_line(
    compiler: GrammarCompiler, setting: str, text: str
) -> None:
    messages = []
    try:
        specification = specification_from_settings({setting: text})
        assert specification is not None
        try:
            check_specification(specification)
        except RequestError as error:
            messages.append(str(error))
        assert compiler.compile(specification).start().mask() is not None
        assert not messages
    except RequestError as error:
        messages.append(str(error))
    assert all("\n" not in message for message in messages)
