"""The contract between the step loop and everything that guesses tokens ahead of the model.

The loop calls each drafter at five moments:

    open(sequence, ...)     a sequence was admitted
    behind(sequence)        before a step: what would a draft have to read first?
    propose(wants)          before a step: guess the next tokens of these sequences
    observe(committed)      after a step: these rows are now part of their sequences
    close(sequence)         the sequence ended

There are two kinds of drafters. A *free* one, such as the suffix drafter, reads only tokens: it is
asked before every step, and can also be asked what follows the guesses of another drafter
(`Want.prefix`). A *costly* one, such as a prediction head, runs a model: one pass per drafted
token. It is asked only when that is expected to pay, for no more tokens than that is expected of,
and in between it does nothing at all:

- A head has keys and values of its own for each position of the text. It computes the missing
  ones in the first pass of the next draft, from the trunk's hidden states that the cache keeps.
  `behind` says how many rows that would be, so that their time is part of the decision.
- It writes keys and values of drafted positions into the blocks of the sequence. The loop reserves
  the room of `Want.limit` tokens before it calls `propose`.
- A draft tells how many passes it took and how many rows it caught up with; the loop measures the
  time, and so learns what passes and rows cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nextn.sampling.sampler import Sampler

_NO_BLOCKS = np.zeros(0, np.int32)


@dataclass(slots=True)
class Draft:
    """Tokens that a drafter guesses for one sequence; empty when it has no guess.

    Attributes:
        tokens: the guesses, for consecutive positions.
        acceptance: for each token, the estimated chance that the trunk chooses it, given that it
            chose all the tokens before it; same length as `tokens`. The depth of the step is
            chosen from these, so a drafter keeps them honest by watching `observe`.
        drafter: the name of the drafter, for statistics and calibration.
        passes: passes of a model that the draft took; 0 for a free one. A chain that ended with a
            token which it then left out took one more than it has tokens.
        caught_up: rows that its first pass read beside the draft's own.
        tail: the name of the drafter of the tokens from index `tail_start` on, if it is another.
        tail_start: see `tail`.
    """

    tokens: list[int] = field(default_factory=list)
    acceptance: list[float] = field(default_factory=list)
    drafter: str = ""
    passes: int = 0
    caught_up: int = 0
    tail: str = ""
    tail_start: int = 0

    def cut(self, depth: int) -> Draft:
        """The draft of the first `depth` tokens only."""
        if depth >= len(self.tokens):
            return self
        draft = Draft(
            self.tokens[:depth], self.acceptance[:depth], self.drafter, self.passes, self.caught_up
        )
        if self.tail and self.tail_start < depth:
            draft.tail, draft.tail_start = self.tail, self.tail_start
        return draft

    def followed_by(self, other: Draft) -> Draft:
        """Join the tokens that another drafter guesses to follow, which become the tail."""
        return Draft(
            self.tokens + other.tokens,
            self.acceptance + other.acceptance,
            self.drafter,
            self.passes,
            self.caught_up,
            other.drafter,
            len(self.tokens),
        )

    def drafter_of(self, index: int) -> str:
        """Who guessed a token."""
        return self.tail if self.tail and index >= self.tail_start else self.drafter


NO_DRAFT = Draft()
"""No guess. Drafts are not changed once they are made, so that one is enough."""


@dataclass(slots=True)
class Want:
    """A sequence for which the loop would verify drafted tokens in the coming step.

    Attributes:
        sequence: its id, as given to `open`.
        limit: the most tokens that will be used, at least 1.
        tokens: the text so far; not to be changed. The last token was chosen by the trunk but has
            not been through a step yet; the first drafted token is for position `len(tokens)`.
        sampler: the sequence's own sampler. A head chooses its draft with it, so that draft and
            trunk use the same noise and agree as often as their two distributions do.
        table: int32 [blocks], the cache blocks of the sequence, with room for `limit` tokens after
            the text; valid during the call. Free drafters are given an empty one.
        least: a chain ends with the first token at which the running product of the estimated
            chances is below this. That token has been paid for: it is part of the draft.
        prefix: guesses of another drafter for the positions from `len(tokens)` on; the draft
            continues after them. Only free drafters are asked with one.
    """

    sequence: int
    limit: int
    tokens: list[int]
    sampler: Sampler
    table: NDArray[np.int32] = field(default_factory=lambda: _NO_BLOCKS)
    least: float = 0.0
    prefix: list[int] = field(default_factory=list)

    @property
    def position(self) -> int:
        """The position of the first drafted token."""
        return len(self.tokens) + len(self.prefix)


@dataclass(slots=True)
class Committed:
    """Rows of the finished step that became part of one sequence.

    For plain decoding that is one row, for verified drafts 1 + `accepted` rows (rejected rows are
    left out), for a prompt chunk all its rows.

    Attributes:
        sequence: the sequence's id.
        tokens: the tokens of the rows, in order.
        next_token: the trunk's choice for the position after them, or None when there is none yet
            (a prompt chunk that is not the last) or will be none (the sequence ended).
        drafted: the draft as it was verified, cut to the depth of the step; None if none was.
        accepted: how many of its tokens the trunk chose itself; `tokens` ends with these.
        drafts: all that drafters guessed for the step, whether it was verified or not. `written`
            tells which guesses were right, up to one token after the verified ones.
        text: the text so far, `next_token` included; not to be changed.
        table: int32 [blocks], the cache blocks of the sequence; valid during the call.
    """

    sequence: int
    tokens: list[int]
    next_token: int | None
    drafted: Draft | None = None
    accepted: int = 0
    drafts: list[Draft] = field(default_factory=list)
    text: list[int] = field(default_factory=list)
    table: NDArray[np.int32] = field(default_factory=lambda: _NO_BLOCKS)

    @property
    def written(self) -> list[int]:
        """What the step wrote, from the position of the first drafted token on."""
        accepted = self.tokens[len(self.tokens) - self.accepted :]
        return accepted if self.next_token is None else [*accepted, self.next_token]


class Drafter(Protocol):
    """Guesses tokens for all the sequences of one engine.

    A drafter never changes the text: whatever it proposes, only the trunk's own choices are kept.

    Attributes:
        name: for statistics; no two drafters of an engine share it.
        free: whether drafts take next to no time; see above.
    """

    name: str
    free: bool

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        """Start following a sequence.

        Args:
            sequence: an id that no open sequence has.
            tokens: the prompt.
            cached: how many leading tokens of it the prefix cache already holds; they will not
                appear in `observe`, every later one will.
        """
        ...

    def close(self, sequence: int) -> None:
        """Forget a sequence."""
        ...

    def behind(self, sequence: int) -> int:
        """Rows that the first pass of a draft would have to read beside its own; 0 if free."""
        ...

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """Guess tokens; one draft per want, in the same order, each of at most `limit` tokens."""
        ...

    def observe(self, committed: Sequence[Committed]) -> None:
        """Learn from a finished step; called once per step, before the next `propose`."""
        ...


def right_guesses(draft: Draft, written: Sequence[int]) -> int:
    """How many tokens a draft has right, until the first wrong one or the end of what is known."""
    count = 0
    for guess, token in zip(draft.tokens, written, strict=False):
        if guess != token:
            break
        count += 1
    return count
