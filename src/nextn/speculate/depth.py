"""How many tokens to draft for a step, and how many to verify: the most tokens per second.

The model and its formulas are described in docs/speculation.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nextn.speculate.base import Committed, Draft
from nextn.speculate.costs import StepTime
from nextn.speculate.draft_costs import DraftTime, DraftWork
from nextn.speculate.history import History
from nextn.speculate.pace import Allowance
from nextn.speculate.useless import FirstTokens, Useless
from nextn.speculate.value import Item, Load, Prospect, Work

DEFAULT_MAX_DEPTH = 12

_MARGIN = 0.005  # tokens per token of plain decoding that a draft must promise beyond its costs
_SURE_OF_PLAIN = 3  # measurements of plain decoding, before anything is compared with it
_MAX_ACCEPTANCE = 0.995
_NEGLIGIBLE = 0.01  # what comes after a token with this chance is not considered
_HOPED_ACCEPTANCE = 0.95  # of drafts that turn out to be good, when it is worth a probe
_LONGEST_REST = 32  # steps
_PLAN_STEPS = 4  # for which a plan holds
_UNTRIED = 3  # depths beyond those that chains reached are considered, too


@dataclass(slots=True)
class _Plan:
    """What was decided for sequences that all draft; it holds for a few steps."""

    sequences: list[int]
    limits: list[int]
    least: float
    steps: int = _PLAN_STEPS

    def holds(self, load: Load, prospects: Sequence[Prospect]) -> bool:
        """Whether it can be used again, for the same sequences."""
        self.steps -= 1
        return (
            self.steps > 0
            and load.sequences == self.sequences
            and len(prospects) == len(self.limits)
        )


class DepthController:
    """Decides how many tokens are drafted and verified in each step.

    Time has a *price*: the tokens per unit of cost that the sequences write at present. A token is
    worth its chance of becoming text, less the price of what it takes: a row of the step, and a
    pass of the drafter if it has not been drafted yet. Of all tokens that could be had for all
    sequences of a step, the best set is the one with the highest value. Chances never grow within
    a draft, so it is enough to sort the tokens of all drafts and to try every number of them.

    `plan` decides before drafting, from what chains were worth so far; `choose` decides after it,
    from the chances of the very tokens, when the passes are paid. No token is always a choice.

    *Never a trap*: what might be better than it looks is tried now and then, from an allowance of
    a small share of the time: a draft where drafts failed, a number of rows that was not measured
    lately, plain decoding. A try that succeeds pays its costs back, so more tries follow at once.

    Args:
        max_depth: most drafted tokens per sequence and step.

    Attributes:
        useless: set once, when the costly drafter was found to be of no use; it must not be asked
            any more.
    """

    def __init__(self, max_depth: int = DEFAULT_MAX_DEPTH) -> None:
        self.max_depth = max_depth
        self.useless: Useless | None = None
        self._work = Work()
        self._history = History()
        self._first = FirstTokens()
        self._allowance = Allowance()
        self._plan: _Plan | None = None
        self._rest = 0  # steps in which `plan` need not look at anything
        self._resting = 1  # how long the last rest was
        self._costly = ""  # name of the costly drafter
        self._limits: dict[int, int] = {}  # of the chains of this step
        self._drafting = 0.0  # cost of the drafts of this step
        self._probed: set[int] = set()  # sequences whose drafts of this step are probes
        self._probe_cost: tuple[int, float] | None = None  # rows of a probing step, assumed cost

    def prime(self, steps: Iterable[StepTime], drafts: Iterable[DraftTime] = ()) -> None:
        """Start from times that were measured at load; see `Work.prime`."""
        self._work.prime(steps, drafts)

    def close(self, sequence: int) -> None:
        """Forget a sequence; one that is unknown is no error."""
        self._history.close(sequence)

    def plan(self, load: Load, prospects: Sequence[Prospect]) -> tuple[list[int], float]:
        """Decide how many tokens to ask of the costly drafter.

        Args:
            load: the coming step.
            prospects: the sequences that may have drafts, in the order of the result.

        Returns:
            The limit of each chain, 0 for none; and `Want.least`.
        """
        limits = [0] * len(prospects)
        for prospect in prospects:
            self._history.see_free(prospect.sequence, prospect.free)
        if any(prospect.sequence not in self._history for prospect in prospects):
            self._rest = 0
        if self._rest > 0 or not prospects or self._unsure(load):
            self._rest = max(self._rest - 1, 0)
            return limits, 0.0
        alone = not any(prospect.free.tokens for prospect in prospects)
        if alone and self._plan is not None and self._plan.holds(load, prospects):
            rooms = [prospect.room for prospect in prospects]
            return list(map(min, self._plan.limits, rooms)), self._plan.least
        price = self._price(load)
        behind = [prospect.catching_up for prospect in prospects]
        costs = self._work.drafts
        most = max(prospect.behind for prospect in prospects)
        self._allowance.save_for(costs.call + costs.one_pass + costs.row * most)
        items: list[Item] = []
        served = set()  # by a free draft
        for index, prospect in enumerate(prospects):
            chain = self._chain_items(index, prospect)
            if prospect.free.tokens:
                chances = self._chances(prospect.free)
                value, _ = self._work.best_drafted(load, price, chances)
                if value > 0.0 and value >= self._work.best(load, price, chain, behind)[0]:
                    chain = [Item(chance, index) for chance in chances]
                    served.add(index)
            items += chain
        if len(prospects) > 1:
            items.sort(key=lambda item: -item.gain)
        value, count = self._work.best(load, price, items, behind)
        if value <= _MARGIN * len(load.sequences):
            count = 0
        for item in items[:count]:
            limits[item.index] += item.passes > 0.0
        chains = sum(limit > 0 for limit in limits)
        idle = [i for i, limit in enumerate(limits) if limit == 0 and i not in served]
        if idle and load.pure:
            index = max(idle, key=lambda index: prospects[index].behind)
            if self._may_probe(load, price, prospects[index], bool(chains)):
                limits[index] = 1
            elif not chains and not prospects[index].free.tokens:
                self._rest = self._resting = min(2 * self._resting, _LONGEST_REST)
        if chains:
            self._resting = 1
        least = self._least(load, price, prospects, limits)
        # One more than pays on average: a chain gets there only if its own chances say so.
        limits = [
            min(limit + (limit > 0), prospect.room, self.max_depth)
            for limit, prospect in zip(limits, prospects, strict=True)
        ]
        if alone:  # else the plan before holds on where no other drafter has a guess
            lasting = all(limits) and not self._probed and self._history.knows(load.sequences)
            self._plan = _Plan(load.sequences, limits, least) if lasting else None
        return limits, least

    def choose(self, drafts: Sequence[Draft], load: Load) -> list[int]:
        """Choose how many drafted tokens to verify.

        Args:
            drafts: one per decoding sequence of the step; empty ones count, as each such sequence
                yields a token anyway.
            load: the coming step; its sequences are those of the drafts.

        Returns:
            The depth of each draft, 0 <= depth <= its length.
        """
        depths = [0] * len(drafts)
        for sequence, draft in zip(load.sequences, drafts, strict=False):
            if not draft.passes:
                self._history.see_free(sequence, draft)
        if not any(draft.tokens for draft in drafts) or self._unsure(load):
            return depths
        price = self._price(load)
        tokens = [
            (chance, index) for index, draft in enumerate(drafts) for chance in self._chances(draft)
        ]
        if len(drafts) > 1:
            tokens.sort(reverse=True)
        if load.pure:
            # Unmeasured numbers of rows are tried by doubling, in case they cost far more than
            # assumed.
            tokens = tokens[: max(2 * self._work.steps.largest - load.rows, 1)]
        # By number of drafted rows: what they cost, and their value.
        costs = self._work.steps.added(load.rows, load.context, len(tokens))
        values = [0.0]
        total = 0.0
        for (chance, _), cost in zip(tokens, costs[1:], strict=True):
            total += chance
            values.append(total - price * cost)
        best = values.index(max(values))
        if values[best] <= _MARGIN * len(drafts):
            best = 0
        held = self._plan is not None and self._plan.steps < _PLAN_STEPS
        if load.pure and not held and self._allowance.left > 0.0:
            best = self._try_rows(drafts, load, price, best, values, costs)
        for _, index in tokens[:best]:
            depths[index] += 1
        return depths

    def observe_drafts(
        self, limits: dict[int, int], drafts: Sequence[Draft], seconds: float
    ) -> None:
        """Learn what drafts of the costly drafter cost.

        Args:
            limits: what was asked for, by sequence.
            drafts: what came, in the same order.
            seconds: the time it took, the decisions included.
        """
        work = DraftWork.of(drafts)
        self._limits = limits
        if self._work.steps.largest:
            self._work.drafts.observe(work, self._work.steps.relative_seconds(seconds))
        self._drafting = self._work.drafts.of(work)

    def observe(
        self, load: Load, rows: int, seconds: float, committed: Sequence[Committed]
    ) -> None:
        """Learn from a finished step.

        Args:
            load: the step as given to `choose`.
            rows: all its rows.
            seconds: its measured time, the choice of its tokens included, drafting not.
            committed: what was committed. Sequences that do not decode are left out.
        """
        for part in committed:
            if part.drafts:
                self._judge(part, load)
        if load.pure and rows > 0 and seconds > 0.0:
            self._learn_time(load, rows, seconds, committed)
        self._probe_cost, self._drafting, self._limits = None, 0.0, {}
        self._probed.clear()

    def expected_values(self, drafts: Sequence[Draft], load: Load) -> list[float]:
        """What drafts are worth now that they are made: tokens beyond the price of their rows."""
        price = self._price(load)
        return [self._work.best_drafted(load, price, self._chances(draft))[0] for draft in drafts]

    def _judge(self, part: Committed, load: Load) -> None:
        """Compare all guesses for one sequence with what was written."""
        written = part.written
        self._history.judge(part.sequence, part.drafts, part.drafted, written)
        limit = self._limits.get(part.sequence)
        for draft in part.drafts:
            if limit is None or not draft.passes:
                continue
            self._costly = draft.drafter
            verified = part.drafted
            rows = 0
            if verified is not None and verified.drafter == draft.drafter:
                rows = verified.tail_start if verified.tail else len(verified.tokens)
            self._history.chains(part.sequence).add(draft, limit, rows, written)
            if written and draft.tokens:
                self._first.add(draft.tokens[0] == written[0])
                if self.useless is None and self._first.due:
                    cheapest = self._work.cheapest_token(self.max_depth, load.context)
                    self.useless = self._first.verdict(draft.drafter, cheapest)
        if part.sequence in self._probed and part.drafted is not None:
            self._allowance.spend(self._work.added(load, len(part.drafted.tokens)))
            self._allowance.refund(part.accepted / self._price(load))

    def _learn_time(
        self, load: Load, rows: int, seconds: float, committed: Sequence[Committed]
    ) -> None:
        costs = self._work.steps
        if self._probe_cost is not None and self._probe_cost[0] == rows:
            surplus = costs.relative_seconds(seconds) - self._probe_cost[1]
            self._allowance.spend(min(max(surplus, 0.0), 1.0))
        costs.observe(rows, seconds, load.context)
        plain = self._work.plain(load)
        took = costs.cost(rows, load.context) + self._drafting
        paced = [p for p in committed if load.paced is None or p.sequence in load.paced]
        self._history.count_step(paced, len(load.sequences), took / plain)
        # What the same text would have taken without drafts.
        tokens = sum(1 + part.accepted for part in committed)
        self._allowance.earn(tokens * plain / len(load.sequences))

    def _unsure(self, load: Load) -> bool:
        """Whether plain decoding was not measured yet, so that nothing can be compared with it."""
        return load.pure and self._work.steps.measurements(load.rows) < _SURE_OF_PLAIN

    def _price(self, load: Load) -> float:
        """Tokens per unit of cost that the sequences of the step write at present."""
        return self._history.pace(load.sequences) / self._work.plain(load)

    def _chain_items(self, index: int, prospect: Prospect) -> list[Item]:
        """The tokens that the costly drafter would guess, from what its chains were worth."""
        record = self._history.chains(prospect.sequence)
        depths = min(prospect.room, self.max_depth, record.deepest + _UNTRIED)
        return [Item(right, index, *taken) for right, *taken in record.outlook(depths)]

    def _chances(self, draft: Draft, *, corrected: bool = True) -> list[float]:
        """The chances that the first 1, 2, ... tokens of a draft that is made are all right."""
        chances = []
        chance = factor = 1.0
        first = 0  # the first token of the drafter whose tokens come next
        for depth, acceptance in enumerate(draft.acceptance[: self.max_depth]):
            if draft.tail and depth == draft.tail_start:
                first = depth
            if corrected and depth <= first + 1:
                later, joined = depth > first, depth == first > 0
                factor = self._history.factor(draft.drafter_of(depth), later, joined)
            chance *= min(acceptance * factor, _MAX_ACCEPTANCE)
            chances.append(chance)
            if chance < _NEGLIGIBLE:
                break
        return chances

    def _least(
        self, load: Load, price: float, prospects: Sequence[Prospect], limits: Sequence[int]
    ) -> float:
        """The running product of chances below which a chain does not pay for a further token.

        The product with the chance of the next token, which the chain does not know yet, has to pay
        for the pass and the row of that. Both are taken where the chains are expected to end.
        """
        asked = [
            (prospect.sequence, limit)
            for prospect, limit in zip(prospects, limits, strict=True)
            if limit
        ]
        if not asked:
            return 0.0
        cost = self._work.further_token(load, [limit for _, limit in asked])
        following = sum(
            self._history.chains(sequence).next_right(limit) for sequence, limit in asked
        )
        following = max(following / len(asked), _NEGLIGIBLE)
        # The chain compares this with what it thinks of itself.
        own = self._history.chain_factor(self._costly, sum(limits) / len(asked))
        return price * cost / (following * own)

    def _may_probe(self, load: Load, price: float, prospect: Prospect, joins: bool) -> bool:
        """Whether to draft a token for a sequence that has no draft; if so, its cost is paid.

        Args:
            load: the coming step.
            price: of its time.
            prospect: the sequence.
            joins: whether the pass is made anyway, for others.
        """
        costs, allowance = self._work.drafts, self._allowance
        cost = costs.row * prospect.behind
        cost += costs.chain if joins else costs.call + costs.one_pass
        if allowance.left < cost:
            return False
        hoped = [Item(_HOPED_ACCEPTANCE**d, 0, 1.0, 1.0) for d in range(1, self.max_depth + 1)]
        if self._work.best(load, price, hoped, [0])[0] <= _MARGIN:
            return False
        allowance.spend(cost)
        self._probed.add(prospect.sequence)
        return True

    def _try_rows(
        self,
        drafts: Sequence[Draft],
        load: Load,
        price: float,
        best: int,
        values: list[float],
        costs: list[float],
    ) -> int:
        """The number of drafted rows: `best`, or another one that is worth a try now."""
        candidates = []
        base = self._work.steps.cost(load.rows, load.context)
        wanted = values[best] + _MARGIN * len(drafts)
        for rows in range(len(values)):
            # Drafted rows need a chance to win, and never make a step cheaper. Plain decoding is
            # what all is compared with: it is always worth measuring.
            hoped = self._work.steps.hoped(load.rows + rows, load.context) - base
            if rows == best or hoped >= costs[rows]:
                continue
            if rows == 0 or values[rows] + price * (costs[rows] - max(hoped, 0.0)) > wanted:
                candidates.append(rows)
        if best == 0:
            trusted = [
                chance for draft in drafts for chance in self._chances(draft, corrected=False)
            ]
            trusted.sort(reverse=True)
            if self._work.best_drafted(load, price, trusted)[0] > wanted:
                candidates.append(1)
        if not candidates:
            return best
        losses = {rows: (values[best] - values[rows]) / price for rows in candidates}
        choice = min(candidates, key=losses.__getitem__)
        if losses[choice] > self._allowance.left:
            return best
        self._allowance.spend(losses[choice])
        self._probe_cost = (load.rows + choice, base + costs[choice])
        return choice
