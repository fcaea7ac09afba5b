"""The contract between the step loop and everything that guesses tokens ahead of the model.

The loop knows one drafter per engine and calls it at four moments:

    open(sequence, ...)     a sequence was admitted
    propose(wants)          before a step: guess the next tokens of these sequences
    observe(committed)      after a step: these rows are now part of their sequences
    close(sequence)         the sequence ended

The suffix drafter reads only tokens. The fields below exist so that a prediction head (nextn
layers, an assistant model, Medusa heads) can be added without a change of the loop. Three facts
about such heads shaped them:

- A head's input at position p is the trunk's hidden state of position p together with the *token
  of position p + 1*. So the rows of a step can feed the head only once the token after the last
  of them is known: `Committed.next_token`. While a prompt is read in chunks, the last row of a
  chunk has no known successor (`next_token` is None) and has to wait for the next chunk.
- Hence a head's own key/value cache lags the trunk's by one position. `Drafter.open` tells how
  many leading tokens came from the prefix cache, since no hidden states will be seen for them.
- A head that does not see a row has a hole in its cache and guesses badly from then on. Therefore
  `observe` is called for *every* committed row, prompt chunks and steps without a draft included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from nextn.sampling.sampler import Sampler


@dataclass(slots=True)
class Draft:
    """Tokens that a drafter guesses for one sequence; empty when it has no guess.

    Attributes:
        tokens: the guesses, for consecutive positions.
        acceptance: for each token, the estimated chance that the trunk chooses it, given that it
            chose all the tokens before it; same length as `tokens`. The depth of the step is
            chosen from these, so a drafter keeps them honest by watching `observe`.
        drafter: the name of the drafter, for statistics and calibration.
    """

    tokens: list[int] = field(default_factory=list)
    acceptance: list[float] = field(default_factory=list)
    drafter: str = ""

    def cut(self, depth: int) -> Draft:
        """The draft of the first `depth` tokens only."""
        if depth >= len(self.tokens):
            return self
        return Draft(self.tokens[:depth], self.acceptance[:depth], self.drafter)


@dataclass(slots=True)
class Want:
    """A sequence for which the loop would verify drafted tokens in the coming step.

    Attributes:
        sequence: its id, as given to `open`.
        limit: the most tokens that will be used, at least 1.
        position: the position of the first drafted token. The token before it is the last known
            one; it was chosen by the trunk but has not been through a step yet.
        sampler: the sequence's own sampler. A head chooses its draft with it, so that draft and
            trunk use the same noise and agree as often as their two distributions do.
    """

    sequence: int
    limit: int
    position: int
    sampler: Sampler


@dataclass(slots=True)
class Committed:
    """Rows of the finished step that became part of one sequence.

    For plain decoding that is one row, for verified drafts 1 + `accepted` rows (rejected rows are
    left out), for a prompt chunk all its rows.

    Attributes:
        sequence: the sequence's id.
        first_row: where these rows start among all the rows of the step. A head reads the trunk's
            hidden states at `first_row + i`; they stay valid until the next step.
        tokens: the tokens of the rows, in order.
        next_token: the trunk's choice for the position after them, or None when there is none yet
            (a prompt chunk that is not the last) or will be none (the sequence ended).
        drafted: the draft as it was verified, cut to the depth of the step; None if none was.
        accepted: how many of its tokens the trunk chose itself; `tokens` ends with these.
    """

    sequence: int
    first_row: int
    tokens: list[int]
    next_token: int | None
    drafted: Draft | None = None
    accepted: int = 0


class Drafter(Protocol):
    """Guesses tokens for all the sequences of one engine.

    A drafter never changes the text: whatever it proposes, only the trunk's own choices are kept.
    """

    name: str

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

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """Guess tokens; one draft per want, in the same order, each of at most `limit` tokens."""
        ...

    def observe(self, committed: Sequence[Committed]) -> None:
        """Learn from a finished step; called once per step, before the next `propose`."""
        ...
