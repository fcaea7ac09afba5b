"""A constraint that llguidance decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from nextn.sampling.constraint import After, Constraint, ConstraintError

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from nextn.grammar.specification import Specification
    from nextn.grammar.vocabulary import Vocabulary

_WORD_BYTES = 4
"""Masks are whole words of 32 bits."""

_MOST_SHOWN = 200

Answer = TypeVar("Answer")


class CompiledGrammar:
    """A grammar, ready for any number of texts: a `ConstraintSource`.

    Args:
        make: makes a matcher in its first state; the first one was seen to be right.
        vocabulary: of the model.
        specification: what it was made from.
    """

    def __init__(
        self, make: Callable[[], LLMatcher], vocabulary: Vocabulary, specification: Specification
    ) -> None:
        self.specification = specification
        self.vocab_size = len(vocabulary.tokens)
        self.end_tokens = frozenset(vocabulary.end_tokens)
        self.ends = np.zeros(-(-self.vocab_size // 32) * _WORD_BYTES, np.uint8)
        for token in vocabulary.end_tokens:
            self.ends[token // 8] |= 1 << token % 8
        self._make = make
        self._first = make()
        self._spellings = vocabulary.tokens

    def start(self) -> Constraint:
        """The state of a text that has no tokens yet."""
        constraint = GrammarConstraint(self, self._first.deep_copy())
        after = self.specification.after
        return constraint if after is None else After(constraint, after.encode(), self._spellings)

    def renewed(self) -> LLMatcher:
        """A matcher that shares nothing with those before; later texts start from it, too."""
        self._first = self._make()
        return self._first.deep_copy()


class GrammarConstraint:
    """The state of one text: see `Constraint`.

    The matcher is never told about end tokens: it knows no state after the end. They are counted
    here.

    The copies of a matcher share the states of their lexer, which have a limit. At the limit they
    all fail for ever. So a matcher that fails is replaced by a new one, and only a text that fails
    again with that one has itself to blame.

    Args:
        source: where it comes from.
        matcher: of this text alone, in its first state.
    """

    __slots__ = ("_address", "_ended", "_mask", "_matcher", "_source", "_tokens")

    def __init__(self, source: CompiledGrammar, matcher: LLMatcher) -> None:
        self._source = source
        self._matcher = matcher
        self._tokens: list[int] = []  # without end tokens
        self._ended = 0  # end tokens that were accepted after these
        self._mask = np.zeros_like(source.ends)
        self._address = self._mask.ctypes.data

    @property
    def may_end(self) -> bool:
        """See `Constraint`."""
        return self._ended > 0 or self._ask(lambda matcher: matcher.is_accepting())

    def mask(self) -> NDArray[np.uint8]:
        """See `Constraint`."""
        if self._ended:
            return self._source.ends
        self._ask(lambda matcher: matcher.unsafe_compute_mask_ptr(self._address, self._mask.nbytes))
        return self._mask

    def accept(self, token: int) -> None:
        """See `Constraint`."""
        if token in self._source.end_tokens and self.may_end:
            self._ended += 1
        elif not self._ended and self._ask(lambda matcher: matcher.try_consume_tokens([token])):
            self._tokens.append(token)
        else:
            raise ConstraintError(f"the grammar does not allow token {token} here")

    def rollback(self, count: int) -> None:
        """See `Constraint`."""
        ended = min(count, self._ended)
        self._ended -= ended
        count -= ended
        if count:
            self._ask(lambda matcher: matcher.rollback(count))
            del self._tokens[-count:]

    def forced(self) -> list[int]:
        """See `Constraint`."""
        return [] if self._ended else self._ask(lambda matcher: matcher.compute_ff_tokens())

    def allowed(self, tokens: Sequence[int]) -> int:
        """See `Constraint`."""
        ends = [i for i, token in enumerate(tokens) if token in self._source.end_tokens]
        count = 0
        if not self._ended:
            text = list(tokens[: ends[0]] if ends else tokens)
            count = self._ask(lambda matcher: matcher.validate_tokens(text))
            if count < len(text) or not ends or not self._may_end_after(text):
                return count
        while count < len(tokens) and tokens[count] in self._source.end_tokens:
            count += 1
        return count

    def _may_end_after(self, tokens: list[int]) -> bool:
        """Whether the text may end after these allowed tokens.

        `validate_tokens` is no help: it refuses end tokens where nothing else may follow.
        """

        def ask(matcher: LLMatcher) -> bool:
            if tokens:
                matcher = matcher.deep_copy()
                matcher.try_consume_tokens(tokens)
            return matcher.is_accepting()

        return self._ask(ask)

    def _ask(self, ask: Callable[[LLMatcher], Answer]) -> Answer:
        """Ask the matcher, or a new one if it fails."""
        answer = ask(self._matcher)
        if self._matcher.is_error():
            matcher = self._source.renewed()
            matcher.try_consume_tokens(self._tokens)
            answer = ask(matcher)
            if matcher.is_error():
                reason = " ".join(matcher.get_error().split())[:_MOST_SHOWN]
                raise ConstraintError(f"the grammar is too complex for this text: {reason}")
            self._matcher = matcher
        return answer
