"""Adds drafted tokens to the runs of a step, and learns from what became of them."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import replace

from nextn.cache import CacheFullError, SequenceBlocks
from nextn.engine.step import Run
from nextn.speculate import (
    Committed,
    DepthController,
    Draft,
    Drafter,
    SpeculationStatistics,
    Want,
)

_LEAST_CHANCE = 0.3
"""A chain whose tokens are all right with less than this chance goes no further."""


class Speculation:
    """The drafters of an engine, its depth controller and their statistics.

    Args:
        drafters: each is asked for every sequence; the draft with the most expected tokens wins.
        depth: decides how many drafted tokens are verified for requests with `draft="auto"`.

    Attributes:
        statistics: what became of all drafts since the engine started.
    """

    def __init__(self, drafters: Items[Drafter], depth: DepthController) -> None:
        self.statistics = SpeculationStatistics()
        self._drafters = drafters
        self._depth = depth
        self._followed: dict[int, SequenceBlocks] = {}

    def draft(self, runs: Items[Run], max_rows: int) -> None:
        """Give drafts to the runs that decode.

        Args:
            runs: of the coming step, without drafts.
            max_rows: most rows of the step, drafted ones included.
        """
        if not self._drafters:
            return
        self._follow(runs)
        decoding = [run for run in runs if run.completes and run.rows == 1]
        rows = sum(run.rows for run in runs)
        wanting = [run for run in decoding if _may_draft(run)]
        if not wanting or rows >= max_rows:
            return
        share = (max_rows - rows) // len(wanting)
        if share:
            drafts = self._propose(wanting, share)
            for run, depth in self._depths(decoding, rows, drafts):
                self._extend(run, drafts[run.sequence.id], depth)

    def observe(self, runs: Items[Run], committed: Items[Committed], seconds: float) -> None:
        """Learn from a finished step.

        Args:
            runs: all runs of the step.
            committed: what was committed, in the same order; failed runs are missing.
            seconds: duration of the step, the choice of its tokens included.
        """
        rows = sum(run.rows + len(run.drafted) for run in runs)
        decodes = all(run.completes and run.rows == 1 for run in runs)
        self._depth.observe_step(rows, seconds, decodes)
        self._depth.observe(committed)
        followed = [part for part in committed if part.sequence in self._followed]
        if followed:
            for drafter in self._drafters:
                drafter.observe(followed)

    def close(self, sequence: int) -> None:
        """Forget a sequence; one that was never followed is no error."""
        if self._followed.pop(sequence, None) is not None:
            for drafter in self._drafters:
                drafter.close(sequence)

    def _follow(self, runs: Items[Run]) -> None:
        """Open the sequences that are new, and those that start again with new blocks."""
        for run in runs:
            sequence = run.sequence
            if sequence.request.draft == "off" or self._followed.get(sequence.id) is run.blocks:
                continue
            self.close(sequence.id)
            for drafter in self._drafters:
                drafter.open(sequence.id, sequence.tokens, run.blocks.length)
            self._followed[sequence.id] = run.blocks

    def _propose(self, runs: Items[Run], share: int) -> dict[int, Draft]:
        """The best draft for each run, of at most `share` tokens, by sequence."""
        wants = []
        for run in runs:
            sequence = run.sequence
            fixed = sequence.request.draft
            limit = fixed if isinstance(fixed, int) else self._depth.limit(sequence.id)
            # One token of a step is always the trunk's own, hence the 1.
            limit = min(limit, share, sequence.remaining - 1)
            wants.append(Want(sequence.id, limit, sequence.tokens, sequence.sampler))
        drafts = {want.sequence: Draft() for want in wants}
        for drafter in self._drafters:
            asked = wants if drafter.free else _with_room(runs, wants)
            for want, draft in zip(asked, drafter.propose(asked), strict=True):
                drafts[want.sequence] = max(drafts[want.sequence], draft, key=_expected)
        return drafts

    def _depths(
        self, decoding: Items[Run], rows: int, drafts: dict[int, Draft]
    ) -> list[tuple[Run, int]]:
        """How many tokens of each draft to verify."""
        none = Draft()
        fixed: list[tuple[Run, int]] = []
        automatic: list[Draft] = []
        any_automatic = False
        for run in decoding:
            draft = drafts.get(run.sequence.id, none)
            if run.sequence.request.draft != "auto":
                if draft.tokens:
                    fixed.append((run, len(draft.tokens)))
                draft = none
            else:
                any_automatic = True
            automatic.append(draft)
        if not any_automatic:
            return fixed
        rows += sum(depth for _, depth in fixed)
        depths = self._depth.choose(automatic, rows)
        return fixed + [
            (run, depth) for run, depth in zip(decoding, depths, strict=True) if depth > 0
        ]

    def _extend(self, run: Run, draft: Draft, depth: int) -> None:
        """Verify the draft's first `depth` tokens, if the cache has room for them."""
        draft = draft.cut(depth)
        if not draft.tokens:
            return
        try:
            run.blocks.reserve(1 + len(draft.tokens))
        except CacheFullError:
            return
        run.draft = draft


def _may_draft(run: Run) -> bool:
    return run.sequence.request.draft != "off" and run.sequence.remaining > 1


def _with_room(runs: Items[Run], wants: Items[Want]) -> list[Want]:
    """The wants for which the cache has room for all tokens, with the blocks that hold it."""
    result = []
    for run, want in zip(runs, wants, strict=True):
        try:
            run.blocks.reserve(1 + want.limit)
        except CacheFullError:
            continue
        fixed = isinstance(run.sequence.request.draft, int)
        least = 0.0 if fixed else _LEAST_CHANCE
        result.append(replace(want, table=run.blocks.table, least=least))
    return result


def _expected(draft: Draft) -> float:
    """Expected number of accepted tokens: each needs all those before it."""
    total, product = 0.0, 1.0
    for acceptance in draft.acceptance:
        product *= acceptance
        total += product
    return total
