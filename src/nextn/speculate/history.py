"""What became of drafts so far, in the engine and in each of its sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nextn.speculate.acceptance import Calibration, ChainRecord
from nextn.speculate.base import Committed
from nextn.speculate.pace import Pace


class History:
    """Calibrations by drafter, chains and pace by sequence.

    A sequence that is new is assumed to be like those before it.
    """

    def __init__(self) -> None:
        self._calibrations: dict[str, Calibration] = {}
        self._all_chains = ChainRecord()
        self._chains: dict[int, ChainRecord] = {}
        self._pace = Pace()
        self._paces: dict[int, Pace] = {}

    def __contains__(self, sequence: int) -> bool:
        """Whether the chains of a sequence were asked for."""
        return sequence in self._chains

    def close(self, sequence: int) -> None:
        """Forget a sequence; one that is unknown is no error."""
        self._chains.pop(sequence, None)
        self._paces.pop(sequence, None)

    def chains(self, sequence: int) -> ChainRecord:
        """The chains of the costly drafter for a sequence."""
        record = self._chains.get(sequence)
        if record is None:
            record = self._chains[sequence] = ChainRecord(self._all_chains)
        return record

    def factor(self, drafter: str) -> float:
        """What to multiply the chances with that a drafter states."""
        calibration = self._calibrations.get(drafter)
        return 1.0 if calibration is None else calibration.factor

    def pace(self, sequences: Sequence[int]) -> float:
        """Tokens that the sequences write together in the time of one step of plain decoding.

        At least one token each: that much can always be had.
        """
        known = [self._paces.get(sequence, self._pace).rate for sequence in sequences]
        return max(sum(known), len(sequences))

    def judge(self, part: Committed) -> None:
        """Compare the chances of all guesses for a sequence with what it wrote."""
        written = part.written
        for draft in part.drafts:
            calibration = self._calibrations.setdefault(draft.drafter, Calibration())
            guesses = zip(draft.tokens, written, draft.acceptance, strict=False)
            for guess, token, estimate in guesses:
                calibration.add(estimate, guess == token)
                if guess != token:
                    break

    def count_step(self, committed: Iterable[Committed], time: float) -> None:
        """Count a step, which took so many times as long as one of plain decoding."""
        for part in committed:
            tokens = 1 + part.accepted
            self._pace.add(tokens, time)
            pace = self._paces.get(part.sequence)
            if pace is None:
                pace = self._paces[part.sequence] = Pace(self._pace)
            pace.add(tokens, time)
