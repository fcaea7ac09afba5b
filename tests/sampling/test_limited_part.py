"""A part of a text that is brought to its end after so many tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.sampling.constraint import Constraint, ConstraintError
from nextn.sampling.limited_part import PartLimit
from tests.support.fake_constraint import FakeConstraint, FakeConstraintSource, accept_allowed

SPELLINGS = [
    *(bytes([byte]) for byte in b"<>/x \n"),
    b"<x>",
    b"</x>",
    b"x>y",
    b"\xc3",
    b"\xa9",
    b"",
]
VOCAB = len(SPELLINGS)
CLOSING = tuple(SPELLINGS.index(each) for each in (b"<", b"/", b"x", b">"))
TOKENS = st.lists(st.integers(0, VOCAB - 1), max_size=14)


def limit(most: int, begin: bytes = b"", inner: FakeConstraintSource | None = None) -> PartLimit:
    return PartLimit(
        vocab_size=VOCAB,
        most=most,
        begin=begin,
        end=b"</x>",
        closing=CLOSING,
        spell=SPELLINGS.__getitem__,
        inner=inner,
    )


def forced_after(tokens: list[int], most: int, begin: bytes) -> tuple[int, ...]:
    """What must come after some tokens that are allowed, found by reading them all again."""
    text, inside, count, closing = b"", not begin, 0, 0
    for token in tokens:
        if closing:
            closing = (closing + 1) % len(CLOSING)
            if not closing:
                return ()
            continue
        if inside and must_close(text, count, most):
            closing = 1
            continue
        text += SPELLINGS[token]
        count += inside
        if not inside:
            text = text.lstrip()
            if text.startswith(begin):
                inside, text = True, text[len(begin) :]
            elif not begin.startswith(text):
                return ()
        if inside and b"</x>" in text:
            return ()
    if closing:
        return CLOSING[closing:]
    return CLOSING if inside and must_close(text, count, most) else ()


def must_close(text: bytes, count: int, most: int) -> bool:
    if count >= most + 4:
        return True
    whole = not text.endswith(b"\xc3")
    mark_begun = text.endswith((b"<", b"</", b"</x"))
    return count >= most and whole and not mark_begun


def allowed_bits(constraint: Constraint) -> list[int]:
    mask = constraint.mask()
    if mask is None:
        return list(range(VOCAB))
    return [i for i in np.flatnonzero(np.unpackbits(mask, bitorder="little")) if i < VOCAB]


@given(TOKENS, TOKENS, st.integers(0, 6), st.sampled_from([b"", b"<x>"]))
def test_only_the_mark_is_allowed_at_the_limit(
    tokens: list[int], tail: list[int], most: int, begin: bytes
) -> None:
    constraint = limit(most, begin).start()
    text: list[int] = []
    for token in tokens:
        if constraint.allowed([token]):
            constraint.accept(token)
            text.append(token)
        else:
            with pytest.raises(ConstraintError):
                constraint.accept(token)
        expected = forced_after(text, most, begin)
        assert tuple(constraint.forced()) == expected
        assert allowed_bits(constraint) == ([expected[0]] if expected else [*range(VOCAB)])
        assert constraint.may_end == (not expected)
    text += accept_allowed(constraint, tail)
    while text:
        constraint.rollback(1)
        text.pop()
        assert tuple(constraint.forced()) == forced_after(text, most, begin)


def test_no_part_is_longer_than_its_limit() -> None:
    constraint = limit(3).start()
    letter = SPELLINGS.index(b"x")
    for _ in range(3):
        assert constraint.forced() == []
        constraint.accept(letter)
    assert constraint.allowed([letter]) == 0
    assert constraint.allowed([*CLOSING, letter, letter]) == 6
    for token in CLOSING:
        constraint.accept(token)
    assert constraint.forced() == []
    assert constraint.mask() is None


def test_a_text_that_does_not_begin_with_the_mark_has_no_limit() -> None:
    constraint = limit(0, b"<x>").start()
    for token in map(SPELLINGS.index, (b"x", b"<x>", b"x", b"x")):
        assert constraint.forced() == []
        constraint.accept(token)


@given(st.lists(st.integers(0, 10), max_size=12), st.integers(0, 4))
def test_the_other_constraint_holds_all_the_time(picks: list[int], most: int) -> None:
    """Where it does not allow the mark, it is as if there were no limit."""
    inner = FakeConstraint(VOCAB, VOCAB - 1)
    constraint = limit(most, b"", FakeConstraintSource(VOCAB, VOCAB - 1)).start()
    text: list[int] = []
    for pick in picks:
        expected = forced_after(text, most, b"")
        if not expected or inner.allowed(expected) < len(expected):
            assert allowed_bits(constraint) == [
                i
                for i in np.flatnonzero(np.unpackbits(inner.mask(), bitorder="little"))
                if i < VOCAB
            ]
            assert constraint.forced() == inner.forced()
        allowed = allowed_bits(constraint)
        token = allowed[pick % len(allowed)]
        assert constraint.allowed([token]) == 1
        constraint.accept(token)
        inner.accept(token)
        text.append(token)
