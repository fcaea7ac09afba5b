"""A part of a text, such as its reasoning, that is brought to its end after so many tokens.

That is a constraint like any other: at the limit, the tokens of the mark that ends the part are the
only ones allowed. So they are known before the model has run, and drafts change no token.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nextn.sampling.constraint import Constraint, ConstraintError, ConstraintSource


@dataclass(slots=True, kw_only=True)
class PartLimit:
    """Limits the part that a text begins with: a `ConstraintSource`.

    Attributes:
        vocab_size: number of token ids of the model.
        most: most tokens between the marks. So many more as it takes to finish a character, or the
            mark itself, are let through.
        begin: the mark that a limited text begins with, perhaps after white space; b"" if the
            prompt ends with it.
        end: the mark that ends the part.
        closing: tokens that spell `end`, at least one.
        spell: the bytes of a token.
        inner: another constraint of the whole text; where it does not allow `closing`, there is no
            limit.
    """

    vocab_size: int
    most: int
    begin: bytes
    end: bytes
    closing: tuple[int, ...]
    spell: Callable[[int], bytes]
    inner: ConstraintSource | None = None

    def start(self) -> Constraint:
        """The state of a text that has no tokens yet."""
        return LimitedPart(self, None if self.inner is None else self.inner.start())


class _State(NamedTuple):
    """Where a text is.

    Attributes:
        inside: whether the part has begun.
        written: tokens of the part.
        closing: tokens of the mark that were forced.
        tail: what of the text may be the beginning of a mark, or of a character.
    """

    inside: bool
    written: int
    closing: int
    tail: bytes


class LimitedPart:
    """The state of one text: see `Constraint`.

    Args:
        limit: what is limited.
        inner: the other constraint in its first state, if there is one.
    """

    __slots__ = ("_inner", "_later", "_limit", "_states")

    def __init__(self, limit: PartLimit, inner: Constraint | None) -> None:
        self._limit = limit
        self._inner = inner
        # The state after each token, up to the one after which nothing is limited any more.
        self._states: list[_State | None] = [_State(not limit.begin, 0, 0, b"")]
        self._later = 0

    @property
    def may_end(self) -> bool:
        """See `Constraint`."""
        return not self._closing() and (self._inner is None or self._inner.may_end)

    def mask(self) -> NDArray[np.uint8] | None:
        """See `Constraint`."""
        closing = self._closing()
        if not closing:
            return None if self._inner is None else self._inner.mask()
        mask = np.zeros(-(-self._limit.vocab_size // 8), np.uint8)
        mask[closing[0] // 8] = 1 << closing[0] % 8
        return mask

    def accept(self, token: int) -> None:
        """See `Constraint`."""
        closing = self._closing()
        if closing and token != closing[0]:
            raise ConstraintError(f"the limit does not allow token {token} here")
        if self._inner is not None:
            self._inner.accept(token)
        state = self._states[-1]
        if state is None:
            self._later += 1
        else:
            self._states.append(self._after(state, token, forced=bool(closing)))

    def rollback(self, count: int) -> None:
        """See `Constraint`."""
        if self._inner is not None:
            self._inner.rollback(count)
        later = min(count, self._later)
        self._later -= later
        if count > later:
            del self._states[len(self._states) - (count - later) :]

    def forced(self) -> list[int]:
        """See `Constraint`."""
        closing = self._closing()
        if closing or self._inner is None:
            return list(closing)
        return self._inner.forced()

    def allowed(self, tokens: Sequence[int]) -> int:
        """See `Constraint`."""
        state, closing = self._states[-1], self._closing()
        count = 0
        while count < len(tokens) and state is not None:
            if closing and tokens[count] != closing[0]:
                break
            state = self._after(state, tokens[count], forced=bool(closing))
            closing = self._closing_in(state)
            count += 1
        else:
            count = len(tokens)
        return count if self._inner is None else self._inner.allowed(tokens[:count])

    def _closing(self) -> tuple[int, ...]:
        """The rest of the mark that must come next; () if nothing must."""
        closing = self._closing_in(self._states[-1])
        if closing and self._inner is not None and self._inner.allowed(closing) < len(closing):
            return ()
        return closing

    def _closing_in(self, state: _State | None) -> tuple[int, ...]:
        limit = self._limit
        if state is None or not state.inside or state.written < limit.most:
            return ()
        if not state.closing and state.written < limit.most + len(limit.end):
            mark_begun = any(
                state.tail.endswith(limit.end[:length]) for length in range(1, len(limit.end))
            )
            if mark_begun or _breaks_off(state.tail):
                return ()
        return limit.closing[state.closing :]

    def _after(self, state: _State, token: int, *, forced: bool) -> _State | None:
        """The state after one more token; None if nothing is limited any more."""
        limit = self._limit
        if forced:
            left = len(limit.closing) - state.closing - 1
            return state._replace(closing=state.closing + 1) if left else None
        text = state.tail + limit.spell(token)
        if not state.inside:
            text = text.lstrip()
            if len(text) < len(limit.begin) and limit.begin.startswith(text):
                return state._replace(tail=text)
            if not text.startswith(limit.begin):
                return None
            text = text[len(limit.begin) :]
        if limit.end in text:
            return None
        tail = text[max(len(text) - max(len(limit.end) - 1, _MOST_BYTES), 0) :]
        return _State(True, state.written + state.inside, 0, tail)


_MOST_BYTES = 4
"""Of a character in UTF-8."""


def _breaks_off(text: bytes) -> bool:
    """Whether a text ends within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    return bool(decoder.getstate()[0])
