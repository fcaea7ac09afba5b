"""What a constraint knows about the next tokens: those it forces, and those it forbids."""

from __future__ import annotations

from collections.abc import Sequence

from nextn.sampling.constraint import ConstraintError
from nextn.speculate.base import NO_DRAFT, Committed, Draft, Want

_CHANCE = 0.999
"""A forced token is certain; the rest is left for a text that ends before it."""


class GrammarDrafter:
    """Drafts the tokens that the constraint of a sequence forces, such as the keys of a schema.

    The trunk has no other choice there. It has to compute their rows all the same, and can do so in
    one step.
    """

    name = "grammar"
    free = True

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        """Nothing to do: a sequence's sampler has its constraint."""

    def close(self, sequence: int) -> None:
        """Nothing to do."""

    def behind(self, sequence: int) -> int:
        """Nothing: only tokens are read."""
        del sequence
        return 0

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """The forced tokens of each sequence."""
        return [self._propose(want) for want in wants]

    def observe(self, committed: Sequence[Committed]) -> None:
        """Nothing to learn."""

    def _propose(self, want: Want) -> Draft:
        if want.sampler.constraint is None:
            return NO_DRAFT
        try:
            forced = want.sampler.constraint.after(want.tokens, want.prefix).forced()
        except ConstraintError:  # the choice of the next token reports it
            return NO_DRAFT
        forced = forced[: want.limit]
        return Draft(forced, [_CHANCE] * len(forced), self.name)


def without_forbidden(draft: Draft, want: Want) -> Draft:
    """The draft up to the first token that the constraint of its sequence does not allow.

    The trunk would not choose that token, so that its row and those after it would be wasted.
    """
    if want.sampler.constraint is None or not draft.tokens:
        return draft
    try:
        constraint = want.sampler.constraint.after(want.tokens, want.prefix)
        return draft.cut(constraint.allowed(draft.tokens))
    except ConstraintError:  # the choice of the next token reports it
        return NO_DRAFT
