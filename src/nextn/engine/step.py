"""One step, from runs to text: rows for the executor, choices from its logits, commitment.

A *run* is what one sequence contributes to a step. There is one kind of run: some known tokens that
are still pending and, if these reach the end of the known text, drafted tokens after them. A chunk
of a prompt, plain decoding, and the verification of a draft differ only in the two counts.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from nextn.backends.base import Rows
from nextn.cache import SequenceBlocks
from nextn.engine.events import Token
from nextn.engine.sequence import Sequence
from nextn.sampling import Choice
from nextn.speculate import Committed, Draft, accept


class Run:
    """The rows of one sequence in one step.

    Attributes:
        sequence: whose they are.
        blocks: its blocks.
        known: tokens of the first rows, which are text.
        completes: whether `known` reaches the end of the text, so that logits are wanted from its
            last row on.
        draft: the guesses in the rows after `known`; None without. Only if `completes`.
        first_logits: index of its first row that wants logits, among those that do.
    """

    __slots__ = ("blocks", "completes", "draft", "first_logits", "known", "sequence")

    def __init__(
        self, sequence: Sequence, blocks: SequenceBlocks, known: list[int], completes: bool
    ) -> None:
        self.sequence = sequence
        self.blocks = blocks
        self.known = known
        self.completes = completes
        self.draft: Draft | None = None
        self.first_logits = 0

    @classmethod
    def of(cls, sequence: Sequence) -> Run:
        """All pending tokens of a sequence that has blocks."""
        blocks = sequence.blocks
        if blocks is None:
            raise RuntimeError(f"[step] sequence {sequence.id} runs without blocks")
        return cls(sequence, blocks, sequence.tokens[blocks.length :], True)

    @property
    def rows(self) -> int:
        """Rows of known tokens."""
        return len(self.known)

    @property
    def drafted(self) -> list[int]:
        """Tokens of the draft."""
        return [] if self.draft is None else self.draft.tokens

    def cut(self, rows: int) -> Run:
        """The run of the first `rows` known tokens only."""
        if rows >= len(self.known):
            return self
        return Run(self.sequence, self.blocks, self.known[:rows], False)


def build_rows(runs: Items[Run]) -> Rows:
    """The rows of a step, run after run; notes in each run where its rows are."""
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    wants: list[bool] = []
    logits = 0
    for slot, run in enumerate(runs):
        first_row = len(tokens)
        run.first_logits = logits
        tokens += run.known
        wanted = 0
        if run.completes:
            drafted = run.drafted
            tokens += drafted
            wanted = 1 + len(drafted)
            logits += wanted
        count = len(tokens) - first_row
        start = run.blocks.length
        positions += range(start, start + count)
        slots += [slot] * count
        wants += [False] * (count - wanted)
        wants += [True] * wanted
    return Rows(
        np.array(tokens, np.int32),
        np.array(positions, np.int32),
        np.array(slots, np.int32),
        np.array(wants, np.bool_),
        _block_tables(runs),
    )


def _block_tables(runs: Items[Run]) -> NDArray[np.int32]:
    """int32 [runs, most blocks of any of them]."""
    tables = [run.blocks.table for run in runs]
    if len(tables) == 1:
        return tables[0][np.newaxis]
    result = np.zeros((len(tables), max(map(len, tables))), np.int32)
    for row, table in zip(result, tables, strict=True):
        row[: len(table)] = table
    return result


def choose(run: Run, logits: NDArray[np.float32]) -> list[Choice]:
    """The trunk's choices for one run; changes nothing.

    Args:
        run: as it was in the step.
        logits: float32 [rows that want logits, vocabulary], of the whole step.

    Returns:
        Nothing for a run that ends before its text does; else one choice more than drafted tokens
        were accepted.

    Raises:
        LogitsError: the logits allow no choice.
    """
    if not run.completes:
        return []
    tokens = run.sequence.tokens
    sampler = run.sequence.sampler
    drafted = run.drafted
    first = run.first_logits
    written = len(tokens)

    def choose_at(index: int) -> Choice:
        if index:
            tokens.append(drafted[index - 1])
        return sampler.choose(logits[first + index], tokens, written + index)

    try:
        return accept(drafted, choose_at)
    finally:
        del tokens[written:]


def commit(run: Run, choices: list[Choice]) -> tuple[Committed, list[Token]]:
    """Make the choices text and the computed rows of that text part of the cache.

    The text may end inside the accepted tokens. Then what comes after is dropped, from the
    statistics too: the draft counts as if it had ended there.

    Returns:
        What the drafters may learn from, and the tokens that were written.
    """
    sequence = run.sequence
    draft = run.draft
    foreseen = len(choices) - 1
    written: list[Token] = []
    for index, choice in enumerate(choices):
        drafter = draft.drafter if draft is not None and index < foreseen else None
        written.append(sequence.append(choice, drafter))
        if sequence.finish_reason is not None:
            break
    accepted = 0
    if draft is not None:
        accepted = min(len(written), foreseen)
        if len(written) <= foreseen:
            draft = draft.cut(accepted)
    rows = run.known + run.drafted[:accepted] if accepted else run.known
    run.blocks.commit(rows)
    following = choices[-1].token if choices and sequence.finish_reason is None else None
    committed = Committed(
        sequence.id, rows, following, draft, accepted, sequence.tokens, run.blocks.table
    )
    return committed, written
