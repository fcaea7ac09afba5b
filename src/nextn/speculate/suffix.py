"""The suffix drafter: copy what followed the last time this text occurred.

It costs the model nothing, and it is right whenever text repeats itself: edits of code, quotes of
the prompt, tables, lists, summaries. In prose most matches are short and accidental; they must not
cost a verified row. So each guess carries an acceptance that was counted for matches of its length.
"""

from __future__ import annotations

from collections.abc import Sequence

from nextn._native import SuffixCounts, SuffixText
from nextn.speculate.base import NO_DRAFT, Committed, Draft, Want

# Match lengths fall into classes, each with the chance that its next token is right that is assumed
# before anything was counted. (longest length of the class, chance)
_CLASSES = (
    (1, 0.08),
    (2, 0.15),
    (3, 0.25),
    (4, 0.35),
    (5, 0.45),
    (7, 0.55),
    (10, 0.65),
    (15, 0.75),
    (23, 0.85),
    (39, 0.9),
)
_LONGEST_CHANCE = 0.93
# By length; the last one for all longer matches.
_CLASS_OF = [
    sum(length > longest for longest, _ in _CLASSES) for length in range(_CLASSES[-1][0] + 2)
]

# Weight, in observations, of the assumed chance against what the engine counted, and of that
# against what the sequence counted; and how fast both forget.
_ENGINE_PRIOR = 10.0
_SEQUENCE_PRIOR = 5.0
_ENGINE_MEMORY = 1 - 1 / 500
_SEQUENCE_MEMORY = 1 - 1 / 25


class SuffixDrafter:
    """Drafts the continuation of the longest repeated suffix of each sequence.

    Of several earlier occurrences it copies a recent one, and once a copy is under way it stays
    with that occurrence for as long as no longer match turns up.

    The acceptance of the i-th guess after a match of length m is the share of right guesses among
    matches of length m + i: if the guesses before it are right, that is what the match will be. It
    is counted from every token the model writes, drafted or not, so it stays honest while nothing
    is drafted. Counts of the sequence refine those of the engine, which refine fixed assumptions,
    each as the prior of a Beta distribution. Prompt tokens are not counted: how the user repeats
    himself says little about the model.

    Args:
        min_match: shortest match that is worth a draft, in tokens.
    """

    name = "suffix"
    free = True

    def __init__(self, min_match: int = 2) -> None:
        if min_match < 1:
            raise ValueError(f"min_match is {min_match}; the least is 1")
        self._min_match = min_match
        self._counts = SuffixCounts(
            _CLASS_OF,
            [*(chance for _, chance in _CLASSES), _LONGEST_CHANCE],
            engine=(_ENGINE_PRIOR, _ENGINE_MEMORY),
            text=(_SEQUENCE_PRIOR, _SEQUENCE_MEMORY),
        )
        self._texts: dict[int, SuffixText] = {}

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        """Start a sequence, with all that is known of its text."""
        del cached
        self._texts[sequence] = SuffixText(self._counts, tokens)

    def close(self, sequence: int) -> None:
        """Forget a sequence."""
        self._texts.pop(sequence, None)

    def behind(self, sequence: int) -> int:
        """Nothing: only tokens are read."""
        del sequence
        return 0

    def observe(self, committed: Sequence[Committed]) -> None:
        """Append what was written, the token without a row yet included."""
        for part in committed:
            self._texts[part.sequence].append(part.written)

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """Copy the continuation of each sequence's match; an empty draft if it is too short."""
        drafts = []
        for want in wants:
            text = self._texts[want.sequence]
            guesses, chances = text.draft(want.limit, self._min_match, want.prefix)
            drafts.append(Draft(guesses, chances, self.name) if guesses else NO_DRAFT)
        return drafts
