"""The suffix drafter: copy what followed the last time this text occurred.

It costs the model nothing, and it is right whenever text repeats itself: edits of code, quotes of
the prompt, tables, lists, summaries. In prose most matches are short and accidental; they must not
cost a verified row. So each guess carries an acceptance that was counted for matches of its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from nextn.speculate.automaton import SuffixAutomaton
from nextn.speculate.base import Committed, Draft, Want

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
_CLASS_OF = [
    sum(length > longest for longest, _ in _CLASSES) for length in range(_CLASSES[-1][0] + 2)
]
_MAX_LENGTH = len(_CLASS_OF) - 1

# Weight, in observations, of the assumed chance against what the engine counted, and of that
# against what the sequence counted; and how fast both forget.
_ENGINE_PRIOR = 10.0
_SEQUENCE_PRIOR = 5.0
_ENGINE_MEMORY = 1 - 1 / 500
_SEQUENCE_MEMORY = 1 - 1 / 25


class _MatchCounts:
    """How often the next token was right, by class of match length, forgetting the old."""

    __slots__ = ("hits", "trials")

    def __init__(self) -> None:
        self.hits = [0.0] * (len(_CLASSES) + 1)
        self.trials = [0.0] * (len(_CLASSES) + 1)

    def add(self, index: int, hit: bool, memory: float) -> None:
        self.hits[index] = self.hits[index] * memory + hit
        self.trials[index] = self.trials[index] * memory + 1.0


class _History:
    """One sequence: its text, its present match, and how its matches fared."""

    __slots__ = ("automaton", "committed", "counts", "length", "prompt_length", "source")

    def __init__(self, prompt_length: int) -> None:
        self.automaton = SuffixAutomaton()
        self.counts = _MatchCounts()
        self.prompt_length = prompt_length
        self.committed = 0  # tokens whose rows were observed or cached; the text may be one longer
        self.length = 0  # of the present match
        self.source = -1  # index of the last token of its earlier occurrence


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
        self._histories: dict[int, _History] = {}
        self._counts = _MatchCounts()

    def open(self, sequence: int, tokens: Sequence[int], cached: int) -> None:
        """Start a sequence; reads the cached tokens, `observe` brings the rest of the prompt."""
        history = _History(len(tokens))
        self._histories[sequence] = history
        for token in islice(tokens, cached):
            self._append(history, token)
        history.committed = cached

    def close(self, sequence: int) -> None:
        """Forget a sequence."""
        self._histories.pop(sequence, None)

    def behind(self, sequence: int) -> int:
        """Nothing: only tokens are read."""
        del sequence
        return 0

    def observe(self, committed: Sequence[Committed]) -> None:
        """Append what became text, the token without a row yet included."""
        for part in committed:
            history = self._histories[part.sequence]
            known = len(history.automaton.text) - history.committed
            for token in islice(part.tokens, known, None):
                self._append(history, token)
            history.committed += len(part.tokens)
            if part.next_token is not None:
                self._append(history, part.next_token)

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        """Copy the continuation of each sequence's match; an empty draft if it is too short."""
        return [self._draft(self._histories[want.sequence], want.limit) for want in wants]

    def _append(self, history: _History, token: int) -> None:
        automaton = history.automaton
        text = automaton.text
        length = history.length
        # `source` is the end of an earlier occurrence, so the token after it exists.
        hit = length > 0 and text[history.source + 1] == token
        if length > 0 and len(text) >= history.prompt_length:
            index = _CLASS_OF[length if length < _MAX_LENGTH else _MAX_LENGTH]
            history.counts.add(index, hit, _SEQUENCE_MEMORY)
            self._counts.add(index, hit, _ENGINE_MEMORY)
        automaton.append(token)
        if hit and automaton.match_length == length + 1:
            history.source += 1
        else:
            history.source = automaton.match_end
        history.length = automaton.match_length

    def _draft(self, history: _History, limit: int) -> Draft:
        length = history.length
        if length < self._min_match:
            return Draft(drafter=self.name)
        text = history.automaton.text
        start = history.source + 1
        tokens = text[start : start + limit].tolist()
        # A copy that runs into the end of the text goes on with the drafted tokens: the text is
        # periodic there, with the distance between the two occurrences as its period.
        for index in range(limit - len(tokens)):
            tokens.append(tokens[index])
        acceptance = []
        for index in range(length, length + limit):
            acceptance.append(
                self._chance(history, _CLASS_OF[index if index < _MAX_LENGTH else _MAX_LENGTH])
            )
        return Draft(tokens, acceptance, self.name)

    def _chance(self, history: _History, index: int) -> float:
        assumed = _CLASSES[index][1] if index < len(_CLASSES) else _LONGEST_CHANCE
        ours, all_ = history.counts, self._counts
        engine = (all_.hits[index] + _ENGINE_PRIOR * assumed) / (all_.trials[index] + _ENGINE_PRIOR)
        return (ours.hits[index] + _SEQUENCE_PRIOR * engine) / (
            ours.trials[index] + _SEQUENCE_PRIOR
        )
