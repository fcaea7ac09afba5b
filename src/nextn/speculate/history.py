"""What became of drafts so far, in the engine and in each of its sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nextn.speculate.acceptance import Calibration, ChainRecord
from nextn.speculate.base import Committed, Draft, right_guesses
from nextn.speculate.pace import Pace

_COPYING = 0.5  # chance of a free draft's first token, from which on a text counts as copied

_KNOWN_CHAINS = 8

_MOST_OF_COSTLY = 1.25  # largest correction of what a drafter states
# A free drafter counts what becomes of all its guesses itself. Those that are chosen to be verified
# may be worse than they look, but not better; and in a long copy a factor counts many times.
_MOST_OF_FREE = 1.0

_FIRST, _LATER, _JOINED = "first", "later", "joined"  # places of a token, see `factor`

_Kind = tuple[bool, int]
"""Whether a text is copied, and the number of bits in the number of sequences of the step."""


class History:
    """Calibrations by drafter, chains and pace by sequence.

    A sequence that is new is assumed to be like those before it.
    """

    def __init__(self) -> None:
        self._calibrations: dict[tuple[str, str], Calibration] = {}  # by drafter and place
        self._all_chains = ChainRecord()
        self._chains: dict[int, ChainRecord] = {}
        # Where a text is copied, tokens come much faster, and what a draft can gain depends on how
        # many sequences share a step: each has a pace of its own.
        self._pace: dict[_Kind, Pace] = {}
        self._paces: dict[int, dict[_Kind, Pace]] = {}
        self._copying: set[int] = set()

    def __contains__(self, sequence: int) -> bool:
        """Whether the chains of a sequence were asked for."""
        return sequence in self._chains

    def knows(self, sequences: Iterable[int]) -> bool:
        """Whether so many chains of all these sequences were counted that little will change."""
        return all(self.chains(sequence).count >= _KNOWN_CHAINS for sequence in sequences)

    def close(self, sequence: int) -> None:
        """Forget a sequence; one that is unknown is no error."""
        self._chains.pop(sequence, None)
        self._copying.discard(sequence)
        self._paces.pop(sequence, None)

    def chains(self, sequence: int) -> ChainRecord:
        """The chains of the costly drafter for a sequence."""
        record = self._chains.get(sequence)
        if record is None:
            record = self._chains[sequence] = ChainRecord(self._all_chains)
        return record

    def factor(self, drafter: str, later: bool, joined: bool = False) -> float:
        """What to multiply the chances with that a drafter states.

        Args:
            drafter: its name.
            later: for tokens after its first one. A factor that is right for first tokens would, to
                the power of a chain's length, promise far too much of the others.
            joined: for its first token after those of another drafter. It is where that one was
                not sure enough to go on, and the best of several: both make it worse than it looks.
        """
        first = self._calibrations.get((drafter, _FIRST))
        factor = 1.0 if first is None else first.factor
        if joined:
            after = self._calibrations.get((drafter, _JOINED))
            return factor if after is None else after.factor
        if not later:
            return factor
        further = self._calibrations.get((drafter, _LATER))
        # Where first tokens fail, later ones are never judged, and deserve no more trust.
        return min(factor, 1.0) if further is None else further.factor

    def chain_factor(self, drafter: str, tokens: float) -> float:
        """What to multiply the product of the chances of a chain of so many tokens with."""
        further = math.pow(self.factor(drafter, later=True), max(tokens - 1.0, 0.0))
        return self.factor(drafter, later=False) * further

    def pace(self, sequences: Sequence[int]) -> float:
        """Tokens that the sequences write together in the time of one step of plain decoding.

        At least one token each: that much can always be had.
        """
        total = 0.0
        for sequence in sequences:
            kind = self._kind(sequence, len(sequences))
            pace = self._paces.get(sequence, {}).get(kind) or self._pace.get(kind)
            total += 1.0 if pace is None else pace.rate
        return max(total, len(sequences))

    def see_free(self, sequence: int, free: Draft) -> None:
        """Note what a free drafter guesses for the coming step, which tells how fast the text is.

        A text is given, whatever is decided about drafts. What time a token saves is what it would
        take in this part of the text, not on average.
        """
        if free.tokens and free.acceptance[0] >= _COPYING:
            self._copying.add(sequence)
        else:
            self._copying.discard(sequence)

    def judge(
        self,
        sequence: int,
        drafts: Iterable[Draft],
        verified: Draft | None,
        written: Sequence[int],
    ) -> None:
        """Compare the chances of guesses for a sequence with what it wrote.

        Args:
            sequence: its id.
            drafts: all that drafters guessed.
            verified: what had rows; the guesses of two drafters may be joined in it.
            written: what the step wrote.
        """
        for draft in drafts:
            chains = self.chains(sequence) if draft.passes else None
            most = _MOST_OF_FREE if chains is None else _MOST_OF_COSTLY
            guesses = zip(draft.tokens, written, draft.acceptance, strict=False)
            for depth, (guess, token, estimate) in enumerate(guesses):
                calibration = self._calibration(draft.drafter, _LATER if depth else _FIRST, most)
                right = guess == token
                chance = estimate * calibration.factor
                if chains is not None and chains.has_changed(chance, right):
                    for pace in self._paces.get(sequence, {}).values():
                        pace.begin_anew()
                calibration.add(estimate, right)
                if not right:
                    break
            else:
                if chains is not None and len(draft.tokens) == 1:
                    self._calibration(draft.drafter, _LATER, most).relax()
        if verified is not None and verified.tail:
            at = verified.tail_start
            if at < len(written) and right_guesses(verified, written) >= at:
                right = verified.tokens[at] == written[at]
                calibration = self._calibration(verified.tail, _JOINED, _MOST_OF_FREE)
                calibration.add(verified.acceptance[at], right)

    def _calibration(self, drafter: str, place: str, most: float) -> Calibration:
        calibration = self._calibrations.get((drafter, place))
        if calibration is None:
            calibration = self._calibrations[drafter, place] = Calibration(most)
        return calibration

    def count_step(self, committed: Iterable[Committed], sequences: int, time: float) -> None:
        """Count a step, which took so many times as long as one of plain decoding.

        Args:
            committed: what was committed for the sequences that count.
            sequences: how many decoded in the step, with those that do not count.
            time: of the step, in steps of plain decoding of them all.
        """
        for part in committed:
            tokens = 1 + part.accepted
            kind = self._kind(part.sequence, sequences)
            everyone = self._pace.setdefault(kind, Pace())
            everyone.add(tokens, time)
            paces = self._paces.setdefault(part.sequence, {})
            if kind not in paces:
                paces[kind] = Pace(everyone)
            paces[kind].add(tokens, time)

    def _kind(self, sequence: int, sequences: int) -> _Kind:
        return sequence in self._copying, sequences.bit_length()
