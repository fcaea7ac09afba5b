"""Adds drafted tokens to the runs of a step, and learns from what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items

from nextn.cache import CacheFullError, SequenceBlocks
from nextn.engine.step import Run
from nextn.speculate import (
    NO_DRAFT,
    Committed,
    DepthController,
    Draft,
    Drafter,
    DraftTime,
    Load,
    Prospect,
    SpeculationStatistics,
    StepTime,
    Switch,
    Useless,
    Want,
    without_forbidden,
)


class Speculation:
    """The drafters of an engine, its depth controller and their statistics.

    Free drafters are asked in every step. The costly one, of which there may be one, is asked where
    the depth controller expects more of it; then every prefix of its draft, the empty one included,
    competes as the beginning of a draft that a free drafter continues.

    Args:
        drafters: all of them; no two with the same name, and no two costly ones.
        depth: decides how many tokens are drafted and verified for requests with `draft="auto"`.
        clock: seconds, for measuring the time that drafts take.

    Attributes:
        statistics: what became of all drafts since the engine started.
    """

    def __init__(
        self,
        drafters: Items[Drafter],
        depth: DepthController,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.statistics = SpeculationStatistics()
        self._free = [drafter for drafter in drafters if drafter.free]
        costly = [drafter for drafter in drafters if not drafter.free]
        if len(costly) > 1:
            raise ValueError(f"[speculation] {len(costly)} drafters that cost; at most one")
        self._costly = costly[0] if costly else None
        self._depth = depth
        self._clock = clock
        self._load = Load([], 0)
        self._switch = Switch()
        self._all_automatic = False  # whether all that decode in the step leave it to nextn
        self._ended: tuple[list[int], float] = ([], 0.0)  # sequences and end of the last step
        self._followed: dict[int, SequenceBlocks] = {}

    @property
    def useless(self) -> Useless | None:
        """Why the costly drafter is not asked any more; None as long as it is."""
        return self._depth.useless

    def prime(self, steps: Iterable[StepTime], drafts: Iterable[DraftTime]) -> None:
        """Start from times that were measured at load."""
        self._depth.prime(steps, drafts)

    def draft(self, runs: Items[Run], max_rows: int) -> None:
        """Give drafts to the runs that decode.

        Args:
            runs: of the coming step, without drafts.
            max_rows: most rows of the step, drafted ones included.
        """
        decoding = [run for run in runs if run.completes and run.rows == 1]
        self._load = _load(decoding, sum(run.rows for run in runs))
        if not self._drafters:
            return
        automatic = [run.sequence.id for run in decoding if run.sequence.request.draft == "auto"]
        self._all_automatic = len(automatic) == len(decoding)
        # With those that read their prompts still: a head that reads along does so for drafts.
        if self._switch.drafts(len(runs)):
            self._load.paced = automatic
        else:
            self._load.paced = ()
            runs = self._without_automatic(runs)
        self._follow(runs)
        wanting = [run for run in decoding if _may_draft(run) and run.sequence.id in self._followed]
        if not wanting or self._load.rows >= max_rows:
            return
        share = (max_rows - self._load.rows) // len(wanting)
        if share:
            drafts = self._propose(wanting, share)
            for run, depth in self._depths(decoding, drafts):
                self._extend(run, drafts[run.sequence.id], depth)

    def observe(self, runs: Items[Run], committed: Items[Committed], seconds: float) -> None:
        """Learn from a finished step.

        Args:
            runs: all runs of the step.
            committed: what was committed, in the same order; failed runs are missing.
            seconds: duration of the step, the choice of its tokens included.
        """
        rows = sum(run.rows + len(run.drafted) for run in runs)
        decoding = set(self._load.sequences)
        decoded = [part for part in committed if part.sequence in decoding]
        self._depth.observe(self._load, rows, seconds, decoded)
        self._observe_whole(decoded)
        followed = [part for part in committed if part.sequence in self._followed]
        if followed:
            for drafter in self._drafters:
                drafter.observe(followed)
        if self._costly is not None and self._depth.useless is not None:
            for sequence in self._followed:
                self._costly.close(sequence)
            self._costly = None

    def _observe_whole(self, decoded: Items[Committed]) -> None:
        """Learn what the step brought in the time since the end of the one before it."""
        before, ended = self._ended
        now = self._clock()
        if self._all_automatic and self._load.pure and self._load.sequences == before:
            tokens = sum(1 + part.accepted for part in decoded)
            self._switch.observe(len(before), tokens, now - ended)
        self._ended = (self._load.sequences, now)

    def _without_automatic(self, runs: Items[Run]) -> list[Run]:
        """The runs whose depth is fixed; those of the others are not followed any more."""
        for run in runs:
            if run.sequence.request.draft == "auto" and run.sequence.id in self._followed:
                self._unfollow(run.sequence.id)
        return [run for run in runs if run.sequence.request.draft != "auto"]

    def close(self, sequence: int) -> None:
        """Forget a sequence; one that was never followed is no error."""
        self._depth.close(sequence)
        self._unfollow(sequence)

    def _unfollow(self, sequence: int) -> None:
        """Let the drafters forget a sequence; what its drafts were worth is remembered."""
        if self._followed.pop(sequence, None) is not None:
            for drafter in self._drafters:
                drafter.close(sequence)

    @property
    def _drafters(self) -> list[Drafter]:
        return self._free if self._costly is None else [*self._free, self._costly]

    def _follow(self, runs: Items[Run]) -> None:
        """Open the sequences that are new, and those that start again with new blocks."""
        for run in runs:
            sequence = run.sequence
            if sequence.request.draft == "off" or self._followed.get(sequence.id) is run.blocks:
                continue
            self._unfollow(sequence.id)
            for drafter in self._drafters:
                drafter.open(sequence.id, sequence.tokens, run.blocks.length)
            self._followed[sequence.id] = run.blocks

    def _propose(self, runs: Items[Run], share: int) -> dict[int, Draft]:
        """The best draft for each run, of at most `share` tokens, by sequence."""
        wants = []
        for run in runs:
            sequence = run.sequence
            fixed = sequence.request.draft
            limit = fixed if isinstance(fixed, int) else self._depth.max_depth
            # One token of a step is always the trunk's own, hence the 1.
            limit = min(limit, share, sequence.remaining - 1)
            wants.append(Want(sequence.id, limit, sequence.tokens, sequence.sampler))
        drafts = self._ask_free(wants)
        for run, draft in zip(runs, drafts, strict=True):
            run.drafts = [draft] if draft.tokens else []
        if self._costly is not None:
            self._ask_costly(self._costly, runs, wants, drafts)
        return {want.sequence: draft for want, draft in zip(wants, drafts, strict=True)}

    def _ask_free(self, wants: Items[Want]) -> list[Draft]:
        """The best draft of the free drafters for each want."""
        drafts = [NO_DRAFT] * len(wants)
        for drafter in self._free:
            for index, draft in enumerate(drafter.propose(wants)):
                draft = without_forbidden(draft, wants[index])
                if draft.tokens and _expected(draft) > _expected(drafts[index]):
                    drafts[index] = draft
        return drafts

    def _ask_costly(
        self, drafter: Drafter, runs: Items[Run], wants: Items[Want], drafts: list[Draft]
    ) -> None:
        """Replace drafts by those of the costly drafter where these are expected to be better."""
        started = self._clock()
        chains = self._chains(drafter, runs, wants, drafts)
        if not chains:
            return
        asked = [
            Want(
                wants[index].sequence,
                limit,
                wants[index].tokens,
                wants[index].sampler,
                runs[index].blocks.table,
                least,
            )
            for index, (limit, least) in chains.items()
        ]
        answers = [
            without_forbidden(draft, want)
            for draft, want in zip(drafter.propose(asked), asked, strict=True)
        ]
        for index, answer in zip(chains, answers, strict=True):
            if answer.tokens:
                runs[index].drafts.append(answer)
                drafts[index] = self._combine(wants[index], answer, drafts[index])
        limits = {want.sequence: want.limit for want in asked}
        self._depth.observe_drafts(limits, answers, self._clock() - started)

    def _chains(
        self, drafter: Drafter, runs: Items[Run], wants: Items[Want], drafts: Items[Draft]
    ) -> dict[int, tuple[int, float]]:
        """Limit and least chance of the chains to ask for, by index; with room in the cache."""
        chains = {}
        automatic = []
        prospects = []
        for index, (run, want) in enumerate(zip(runs, wants, strict=True)):
            if run.sequence.request.draft == "auto":
                automatic.append(index)
                behind = drafter.behind(want.sequence)
                prospects.append(
                    Prospect(
                        sequence=want.sequence,
                        room=want.limit,
                        behind=behind,
                        free=drafts[index],
                        remaining=run.sequence.remaining,
                    )
                )
            else:
                chains[index] = want.limit, 0.0
        if prospects:
            limits, least = self._depth.plan(self._load, prospects)
            for index, limit in zip(automatic, limits, strict=True):
                if limit:
                    chains[index] = limit, least
        return {index: chain for index, chain in chains.items() if _reserve(runs[index], chain[0])}

    def _combine(self, want: Want, chain: Draft, free: Draft) -> Draft:
        """The best of the chain, the free draft, and a part of the chain that a free one continues.

        The chain has been paid for, so only the rows of its tokens count.
        """
        candidates = [chain, free] if free.tokens else [chain]
        lengths = range(1, min(len(chain.tokens), want.limit - 1) + 1)
        after = [
            Want(
                want.sequence,
                want.limit - length,
                want.tokens,
                want.sampler,
                prefix=chain.tokens[:length],
            )
            for length in lengths
        ]
        for length, more in zip(lengths, self._ask_free(after), strict=True):
            if more.tokens:
                candidates.append(chain.cut(length).followed_by(more))
        if len(candidates) == 1:
            return chain
        values = self._depth.expected_values(candidates, self._load)
        return candidates[max(range(len(values)), key=values.__getitem__)]

    def _depths(self, decoding: Items[Run], drafts: dict[int, Draft]) -> list[tuple[Run, int]]:
        """How many tokens of each draft to verify."""
        fixed: list[tuple[Run, int]] = []
        automatic: list[Draft] = []
        any_automatic = False
        for run in decoding:
            draft = drafts.get(run.sequence.id, NO_DRAFT)
            if run.sequence.request.draft != "auto":
                if draft.tokens:
                    fixed.append((run, len(draft.tokens)))
                draft = NO_DRAFT
            else:
                any_automatic = True
            automatic.append(draft)
        if not any_automatic:
            return fixed
        load = self._load
        rows = load.rows + sum(depth for _, depth in fixed)
        depths = self._depth.choose(automatic, Load(load.sequences, rows, load.context))
        return fixed + [
            (run, depth) for run, depth in zip(decoding, depths, strict=True) if depth > 0
        ]

    def _extend(self, run: Run, draft: Draft, depth: int) -> None:
        """Verify the draft's first `depth` tokens, if the cache has room for them."""
        draft = draft.cut(depth)
        if draft.tokens and _reserve(run, len(draft.tokens)):
            run.draft = draft


def _load(decoding: Items[Run], rows: int) -> Load:
    context = sum(run.blocks.length for run in decoding) / max(len(decoding), 1)
    return Load([run.sequence.id for run in decoding], rows, context)


def _reserve(run: Run, tokens: int) -> bool:
    """Make room in the cache for drafted tokens; whether there was any."""
    try:
        run.blocks.reserve(1 + tokens)
    except CacheFullError:
        return False
    return True


def _may_draft(run: Run) -> bool:
    return run.sequence.request.draft != "off" and run.sequence.remaining > 1


def _expected(draft: Draft) -> float:
    """Expected number of accepted tokens: each needs all those before it."""
    total, product = 0.0, 1.0
    for acceptance in draft.acceptance:
        product *= acceptance
        total += product
    return total
