"""A constraint that llguidance decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nextn.sampling.constraint import After, Constraint, ConstraintError

if TYPE_CHECKING:
    from llguidance import LLMatcher

    from nextn.grammar.specification import Specification
    from nextn.grammar.vocabulary import Vocabulary

_WORD_BYTES = 4
"""Masks are whole words of 32 bits."""


class CompiledGrammar:
    """A grammar, ready for any number of texts: a `ConstraintSource`.

    Args:
        matcher: in its first state; is copied for each text.
        vocabulary: of the model.
        specification: what it was made from.
    """

    def __init__(
        self, matcher: LLMatcher, vocabulary: Vocabulary, specification: Specification
    ) -> None:
        self.specification = specification
        self.vocab_size = len(vocabulary.tokens)
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._ends = np.zeros(-(-self.vocab_size // 32) * _WORD_BYTES, np.uint8)
        for token in vocabulary.end_tokens:
            self._ends[token // 8] |= 1 << token % 8

    def start(self) -> Constraint:
        """The state of a text that has no tokens yet."""
        constraint = GrammarConstraint(
            self._matcher.deep_copy(), frozenset(self._vocabulary.end_tokens), self._ends
        )
        after = self.specification.after
        if after is None:
            return constraint
        return After(constraint, after.encode(), self._vocabulary.tokens)


class GrammarConstraint:
    """The state of one text: see `Constraint`.

    The matcher is never told about end tokens: it knows no state after the end. They are counted
    here.

    Args:
        matcher: of this text alone, in its first state.
        end_tokens: ids that end a text.
        ends: the mask of these.
    """

    __slots__ = ("_address", "_end_tokens", "_ended", "_ends", "_mask", "_matcher")

    def __init__(
        self, matcher: LLMatcher, end_tokens: frozenset[int], ends: NDArray[np.uint8]
    ) -> None:
        self._matcher = matcher
        self._end_tokens = end_tokens
        self._ends = ends
        self._ended = 0  # end tokens that were accepted
        self._mask = np.zeros_like(ends)
        self._address = self._mask.ctypes.data

    @property
    def may_end(self) -> bool:
        """See `Constraint`."""
        return self._ended > 0 or self._matcher.is_accepting()

    def mask(self) -> NDArray[np.uint8]:
        """See `Constraint`."""
        if self._ended:
            return self._ends
        self._matcher.unsafe_compute_mask_ptr(self._address, self._mask.nbytes)
        self._check()
        return self._mask

    def accept(self, token: int) -> None:
        """See `Constraint`."""
        if token in self._end_tokens and self.may_end:
            self._ended += 1
        elif self._ended or self._matcher.try_consume_tokens([token]) != 1:
            self._check()
            raise ConstraintError(f"the grammar does not allow token {token} here")

    def rollback(self, count: int) -> None:
        """See `Constraint`."""
        ended = min(count, self._ended)
        self._ended -= ended
        if count > ended:
            self._matcher.rollback(count - ended)
            self._check()

    def forced(self) -> list[int]:
        """See `Constraint`."""
        return [] if self._ended else self._matcher.compute_ff_tokens()

    def allowed(self, tokens: Sequence[int]) -> int:
        """See `Constraint`."""
        ends = [index for index, token in enumerate(tokens) if token in self._end_tokens]
        count = 0
        if not self._ended:
            within = list(tokens[: ends[0] + 1] if ends else tokens)
            count = self._matcher.validate_tokens(within)
            if count < len(within) or not ends:
                return count
        while count < len(tokens) and tokens[count] in self._end_tokens:
            count += 1
        return count

    def _check(self) -> None:
        """Raise if the matcher gave up, which is for ever."""
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())[:200]
            raise ConstraintError(f"the grammar is too complex for this text: {reason}")
