"""The contract between the sampler and what decides which tokens a text may have at all.

A constraint, such as a grammar, says for each position which tokens are allowed. Where it allows
only one, that token is known before the model has run: a free draft. It knows nothing of models or
of steps; `nextn.grammar` makes them.

A verified row must be treated as if it had been decoded alone. So the choice of a row depends on
the tokens before it, and on no state that an earlier row or a rejected draft left behind: before
each use, a `Follower` brings the constraint to the state that follows from exactly those tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nextn.errors import NextnError

_MOST_RETRACTED = 64
"""Tokens at the end of a text that may turn out not to be part of it; more than any draft has."""


class ConstraintError(NextnError):
    """A text that its constraint cannot follow: it became too complex, or allows no token."""


class Constraint(Protocol):
    """What may follow in one text. It starts at the first token after the prompt.

    An end token is allowed where the text may end. After one, only further end tokens are allowed,
    so that drafted tokens behind the end of a text are no special case.
    """

    @property
    def may_end(self) -> bool:
        """Whether the text so far is complete."""
        ...

    def mask(self) -> NDArray[np.uint8] | None:
        """Which tokens may come next.

        Returns:
            uint8 [at least ceil(vocabulary / 8)]: bit i % 8 of byte i // 8 is set if token i is
            allowed. It is valid until the next call of any method. None if all are allowed.

        Raises:
            ConstraintError: this cannot be computed within the limits.
        """
        ...

    def accept(self, token: int) -> None:
        """Go on by one token.

        Raises:
            ConstraintError: the token is not allowed.
        """
        ...

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens."""
        ...

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as each is the only one allowed; often none."""
        ...

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many of these tokens may come next, one after the other. Changes nothing."""
        ...


class ConstraintSource(Protocol):
    """A constraint before the first token; any number of texts can be written under it.

    Attributes:
        vocab_size: number of token ids of the model that it is made for.
    """

    vocab_size: int

    def start(self) -> Constraint:
        """The state of a text that has no tokens yet."""
        ...


class Follower:
    """Keeps the constraint of one sequence in the state that its tokens give.

    Args:
        constraint: in its first state; used by nothing else.
        start: index in the sequence of the first token under the constraint.
    """

    __slots__ = ("_accepted", "_constraint", "_start")

    def __init__(self, constraint: Constraint, start: int) -> None:
        self._constraint = constraint
        self._start = start
        self._accepted: list[int] = []

    def after(self, tokens: Sequence[int], drafted: Sequence[int] = ()) -> Constraint:
        """The constraint in the state after some tokens; not to be changed, and valid until then.

        Args:
            tokens: all tokens of the sequence. Those that were text once are text for ever.
            drafted: guesses that follow them.

        Raises:
            ConstraintError: these tokens are not allowed, or it cannot be computed.
        """
        accepted, constraint = self._accepted, self._constraint
        length = len(tokens) - self._start
        same = min(len(accepted), length)
        # Only tokens of the last steps, which may have been drafts, can differ from the text.
        first = max(same - _MOST_RETRACTED, 0)
        for index in range(first, same):
            if accepted[index] != tokens[self._start + index]:
                same = index
                break
        keep = same
        if same == length:
            for token in drafted:
                if keep == len(accepted) or accepted[keep] != token:
                    break
                keep += 1
        if keep < len(accepted):
            constraint.rollback(len(accepted) - keep)
            del accepted[keep:]
        for index in range(keep, length + len(drafted)):
            token = tokens[self._start + index] if index < length else drafted[index - length]
            constraint.accept(token)
            accepted.append(token)
        return constraint


class After:
    """A constraint that begins behind a marker, such as "</think>"; before it, all is allowed.

    The marker is looked for in the bytes of the tokens; the constraint begins with the token after
    the one that completes it. It may do so inside a drafted block: the drafts after the marker are
    then under the constraint as all later tokens are.

    Args:
        constraint: of the text behind the marker.
        marker: bytes, at least one.
        spellings: the bytes of each token.
    """

    def __init__(self, constraint: Constraint, marker: bytes, spellings: Sequence[bytes]) -> None:
        self._constraint = constraint
        self._marker = marker
        self._spellings = spellings
        self._before: list[bytes] = []  # what of the text may be the beginning of a marker
        self._inside = 0  # tokens that the constraint has accepted
        self._begun = False

    @property
    def may_end(self) -> bool:
        """Before the marker, too, a text may end."""
        return not self._begun or self._constraint.may_end

    def mask(self) -> NDArray[np.uint8] | None:
        """See `Constraint`."""
        return self._constraint.mask() if self._begun else None

    def accept(self, token: int) -> None:
        """See `Constraint`."""
        if self._begun:
            self._constraint.accept(token)
            self._inside += 1
        else:
            self._before.append(self._next_tail(self._before[-1] if self._before else b"", token))
            self._begun = self._before[-1].endswith(self._marker)

    def rollback(self, count: int) -> None:
        """See `Constraint`."""
        inside = min(count, self._inside)
        if inside:
            self._constraint.rollback(inside)
            self._inside -= inside
        if count > inside:
            del self._before[len(self._before) - (count - inside) :]
            self._begun = False

    def forced(self) -> list[int]:
        """See `Constraint`."""
        return self._constraint.forced() if self._begun else []

    def allowed(self, tokens: Sequence[int]) -> int:
        """See `Constraint`."""
        if self._begun:
            return self._constraint.allowed(tokens)
        tail = self._before[-1] if self._before else b""
        for index, token in enumerate(tokens):
            tail = self._next_tail(tail, token)
            if tail.endswith(self._marker):
                return index + 1 + self._constraint.allowed(tokens[index + 1 :])
        return len(tokens)

    def _next_tail(self, tail: bytes, token: int) -> bytes:
        """The marker itself if it is now complete, else the bytes that may begin one."""
        spelling = self._spellings[token] if token < len(self._spellings) else b""
        text = tail + spelling
        if self._marker in text:
            return self._marker
        return text[max(len(text) - len(self._marker) + 1, 0) :]


_OF_BYTE = np.where(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, np.newaxis], axis=1, bitorder="little"),
    np.float32(0),
    np.float32(-np.inf),
)
"""float32 [256, 8]: what eight logits get for each byte of a mask."""


def masked(logits: NDArray[np.float32], mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A copy of the logits in which tokens that are not allowed have -inf.

    Args:
        logits: float32 [vocab_size].
        mask: see `Constraint.mask`.
    """
    change = _OF_BYTE[mask].reshape(-1)[: logits.size]
    change += logits
    return change
