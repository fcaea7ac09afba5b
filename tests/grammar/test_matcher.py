"""The constraint of llguidance keeps the contract, whatever was asked, drafted and taken back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nextn
from nextn.grammar import Specification, specification_from_settings
from nextn.grammar.compiler import GrammarCompiler
from nextn.sampling import Constraint, ConstraintError

SCHEMA = (
    '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 6},'
    '"kind": {"enum": ["then", "there", "thing"]}, "ages": {"type": "array", "maxItems": 3,'
    '"items": {"type": "integer", "minimum": 0, "maximum": 120}}},'
    '"required": ["name", "kind", "ages"], "additionalProperties": false}'
)
FORMS = (
    Specification("json_schema", SCHEMA, "json_schema"),
    Specification("regex", r"(the|thing|sand)+[0-9]{2,3}x?", "regex"),
    Specification("gbnf", 'root ::= item+\nitem ::= "- " [a-c]+ "\\n"', "grammar"),
    Specification("lark", 'start: "<" inner ">"\ninner: start | /[ab]+/', "grammar"),
    Specification("regex", r"(an|on)+", "regex", after="the"),
)


def ids(constraint: Constraint, size: int) -> list[int]:
    mask = constraint.mask()
    if mask is None:
        return list(range(3, size))  # without control tokens, one of which ends the text
    return np.flatnonzero(np.unpackbits(mask, bitorder="little")[:size]).tolist()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FORMS), st.data())
def test_after_any_history_it_is_like_a_new_one(
    compiler: GrammarCompiler, model: nextn.Model, form: Specification, data: st.DataObject
) -> None:
    source = compiler.compile(form)
    size = source.vocab_size
    ends = model.tokenizer.end_of_generation
    constraint = source.start()
    text: list[int] = []
    for _ in range(data.draw(st.integers(1, 25))):
        fresh = source.start()
        for token in text:
            fresh.accept(token)
        # The one is asked in another order than the other.
        if data.draw(st.booleans()):
            constraint.forced()
        allowed = ids(constraint, size)
        assert allowed == ids(fresh, size)
        forced = constraint.forced()
        assert forced == fresh.forced()
        assert constraint.may_end == fresh.may_end
        if constraint.mask() is not None:
            assert constraint.may_end == bool(ends & set(allowed))
        if forced:
            assert allowed == forced[:1]
            assert constraint.allowed(forced) == len(forced)
        guesses = data.draw(st.lists(st.integers(0, size - 1), max_size=4))
        count = constraint.allowed(guesses)
        assert count == fresh.allowed(guesses)
        if guesses and guesses[0] not in allowed and constraint.mask() is not None and not forced:
            assert count == 0
        token = allowed[data.draw(st.integers(0, 10**6)) % len(allowed)]
        assert constraint.allowed([token]) == 1
        constraint.accept(token)
        text.append(token)
        back = data.draw(st.integers(0, min(len(text), 6)))
        if back:
            constraint.rollback(back)
            del text[-back:]


def test_no_token_but_the_end_follows_the_end_and_all_can_be_taken_back(
    compiler: GrammarCompiler, model: nextn.Model
) -> None:
    """The matcher must not be asked about drafted tokens behind the end of a text."""
    source = compiler.compile(Specification("regex", "ab?", "regex"))
    (a,), (b,) = (model.tokenizer.encode(text, add_special=False) for text in "ab")
    ends = sorted(model.tokenizer.end_of_generation)
    constraint = source.start()
    constraint.accept(a)
    assert ids(constraint, source.vocab_size) == sorted([*ends, b])
    assert constraint.allowed([b, *ends, *ends, b]) == 1 + 2 * len(ends)
    assert constraint.allowed([ends[0], b]) == 1
    constraint.accept(ends[0])
    assert constraint.may_end
    assert ids(constraint, source.vocab_size) == ends
    assert constraint.forced() == []
    assert constraint.allowed([*ends, a]) == len(ends)
    with pytest.raises(ConstraintError, match=f"does not allow token {b}"):
        constraint.accept(b)
    constraint.accept(ends[0])
    constraint.rollback(2)
    constraint.accept(b)
    assert ids(constraint, source.vocab_size) == ends
    constraint.accept(ends[0])
    constraint.rollback(3)
    assert not constraint.may_end
    assert ids(constraint, source.vocab_size) == [a]


def test_an_end_token_before_the_text_may_end_is_not_allowed(
    compiler: GrammarCompiler, model: nextn.Model
) -> None:
    constraint = compiler.compile(Specification("regex", "ab", "regex")).start()
    (end, *_) = sorted(model.tokenizer.end_of_generation)
    assert constraint.allowed([end]) == 0
    with pytest.raises(ConstraintError, match=f"does not allow token {end}"):
        constraint.accept(end)


def test_equal_forms_are_compiled_once_and_their_texts_are_independent(
    compiler: GrammarCompiler,
) -> None:
    first = compiler.from_settings({"json_schema": SCHEMA})
    assert first is not None
    specification = specification_from_settings({"json_schema": SCHEMA})
    assert specification is not None
    assert compiler.compile(specification) is first
    one, two = first.start(), first.start()
    one.accept(one.forced()[0] if one.forced() else ids(one, first.vocab_size)[0])
    assert two.mask() is not None
    assert ids(two, first.vocab_size) == ids(first.start(), first.vocab_size)


def test_a_text_that_uses_up_the_states_of_its_grammar_harms_no_other(
    compiler: GrammarCompiler, model: nextn.Model
) -> None:
    """Copies of a matcher share the states of their lexer, and their limit."""
    schema = {"type": "string", "maxLength": 60_000}
    source = compiler.from_settings({"json_schema": schema})
    assert source is not None
    quote, a = model.tokenizer.encode('"a', add_special=False)
    greedy, modest = source.start(), source.start()
    for constraint in (greedy, modest):
        constraint.accept(quote)
        constraint.accept(a)
    with pytest.raises(ConstraintError, match="too complex for this text"):  # noqa: PT012
        for _ in range(60_000):
            greedy.accept(a)
    expected = ids(modest, source.vocab_size)
    assert quote in expected
    for _ in range(50):
        modest.accept(a)
        assert ids(modest, source.vocab_size) == expected
    modest.rollback(50)
    modest.accept(quote)
    assert modest.may_end
    later = source.start()
    later.accept(quote)
    assert quote in ids(later, source.vocab_size)
    with pytest.raises(ConstraintError):
        greedy.accept(a)
