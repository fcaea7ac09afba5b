"""A constraint whose allowed tokens are a pure function of the tokens before, by a hash."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from nextn.sampling.constraint import After, Constraint, ConstraintError
from tests.support.fake_executor import FakeTokenizer


class FakeConstraint:
    """See `nextn.sampling.constraint.Constraint`. Checks how it is used."""

    def __init__(self, vocab_size: int, end_token: int, fails_at: int | None = None) -> None:
        self.tokens: list[int] = []
        self._vocab_size = vocab_size
        self._end_token = end_token
        self._fails_at = fails_at

    @property
    def may_end(self) -> bool:
        return self._end_token in self._allowed(self.tokens)

    def mask(self) -> NDArray[np.uint8]:
        self._check()
        bits = np.zeros(-(-self._vocab_size // 32) * 32, np.bool_)
        bits[list(self._allowed(self.tokens))] = True
        return np.packbits(bits, bitorder="little")

    def accept(self, token: int) -> None:
        if token not in self._allowed(self.tokens):
            raise ConstraintError(f"{token} after {self.tokens}")
        self.tokens.append(token)

    def rollback(self, count: int) -> None:
        assert 0 < count <= len(self.tokens)
        del self.tokens[-count:]

    def forced(self) -> list[int]:
        self._check()
        text = list(self.tokens)
        while len(allowed := self._allowed(text)) == 1 and len(text) < 500:
            text += allowed
        return text[len(self.tokens) :]

    def allowed(self, tokens: Sequence[int]) -> int:
        text = list(self.tokens)
        for count, token in enumerate(tokens):
            if token not in self._allowed(text):
                return count
            text.append(token)
        return len(tokens)

    def _check(self) -> None:
        if len(self.tokens) == self._fails_at:
            raise ConstraintError("too complex")

    def _allowed(self, text: list[int]) -> set[int]:
        if self._end_token in text:
            return {self._end_token}
        # Few contexts, so that the text repeats itself.
        number = crc32(bytes(text[-2:]))
        some = {(number >> shift) % self._vocab_size for shift in range(0, 20, 2)}
        kind = number % 4
        if kind == 0:
            return {number // 4 % (self._vocab_size - 4)}
        if kind == 1:
            return set(range(self._vocab_size)) - {self._end_token}
        return some | {self._end_token} if kind == 2 else some - {self._end_token} or {1}


class FakeConstraintSource:
    """See `nextn.sampling.constraint.ConstraintSource`."""

    def __init__(
        self,
        vocab_size: int,
        end_token: int,
        *,
        after: bytes | None = None,
        fails_at: int | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self._end_token = end_token
        self._after = after
        self._fails_at = fails_at

    def start(self) -> Constraint:
        constraint = FakeConstraint(self.vocab_size, self._end_token, self._fails_at)
        if self._after is None:
            return constraint
        spellings = [FakeTokenizer().token_bytes(token) for token in range(self.vocab_size)]
        return After(constraint, self._after, spellings)

    def start_after(self, tokens: Sequence[int]) -> Constraint:
        constraint = self.start()
        for token in tokens:
            constraint.accept(token)
        return constraint


def accept_allowed(constraint: Constraint, tokens: list[int]) -> list[int]:
    """Accept as many tokens as are allowed, and check that trying one after the other agrees."""
    count = constraint.allowed(tokens)
    for index in range(count):
        assert constraint.allowed(tokens[index : index + 1]) == 1
        constraint.accept(tokens[index])
    assert count == len(tokens) or constraint.allowed(tokens[count : count + 1]) == 0
    return tokens[:count]
