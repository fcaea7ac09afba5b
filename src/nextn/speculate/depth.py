"""How many drafted tokens to verify in a step: the most tokens per second, by measurement."""

from __future__ import annotations

from collections.abc import Sequence

from nextn.speculate.base import Committed, Draft
from nextn.speculate.costs import StepCosts

DEFAULT_MAX_DEPTH = 12

_MARGIN = 0.02  # speculate only for a predicted gain of more than this
_PROBE_SHARE = 0.004  # of the time may be spent on steps that are taken to learn
_PROBE_CREDIT = 1.5  # most of it that can be saved up, in steps of cost 1
_SURE_OF_PLAIN = 3  # measurements of plain decoding, before anything is compared with it
_CALIBRATION_PRIOR = 3.0  # tokens that count as having been as expected, at first
_CALIBRATION_MEMORY = 1 - 1 / 100
_MAX_CALIBRATION = 1.25
_MAX_ACCEPTANCE = 0.995
_NEGLIGIBLE = 0.01  # what comes after a token with this chance is not considered


class _Calibration:
    """Whether a drafter's acceptance estimates come true."""

    __slots__ = ("accepted", "expected")

    def __init__(self) -> None:
        self.accepted = _CALIBRATION_PRIOR
        self.expected = _CALIBRATION_PRIOR

    def add(self, estimate: float, accepted: bool) -> None:
        self.accepted = self.accepted * _CALIBRATION_MEMORY + accepted
        self.expected = self.expected * _CALIBRATION_MEMORY + estimate

    @property
    def factor(self) -> float:
        return min(self.accepted / max(self.expected, 0.1), _MAX_CALIBRATION)


class DepthController:
    """Chooses the depth of every draft of a step.

    With a_1, a_2, ... the estimated acceptance of a draft's tokens, each given that those before it
    were accepted, verifying d of them yields 1 + a_1 + a_1 a_2 + ... (d products) tokens in
    expectation. The step costs what a step with that many rows costs. For a given number of drafted
    rows the best use of them is the largest products of all drafts, which never grow within a
    draft; so it is enough to sort them and to try every number of rows. Rows of prompt chunks in
    the same step have to be run anyway: drafted rows are charged what they add to the step, beside
    the cost of a step of plain decoding.

    *Never slower*: depth 0 is one of the choices, and anything else needs a predicted gain of more
    than 2 %. Costs come from measured steps (`StepCosts`). A drafter whose estimates do not come
    true is corrected by the ratio of accepted to expected tokens.

    *Never a trap*: a choice that might be the best one if an uncertain cost, or an unfavourable
    correction, turned out to be out of date is tried now and then, paid from a budget of 0.4 % of
    the time; what such a step took beyond the prediction is charged afterwards. Plain decoding is
    measured before the first draft, and again in this way while speculation pays.

    Args:
        max_depth: most drafted tokens per sequence and step.
        fixed: if given, always verify this many tokens (or as many as were drafted).
    """

    def __init__(self, max_depth: int = DEFAULT_MAX_DEPTH, fixed: int | None = None) -> None:
        self.max_depth = max_depth
        self.fixed = fixed
        self._costs = StepCosts()
        self._calibrations: dict[str, _Calibration] = {}
        self._credit = 0.0
        self._probe: tuple[int, float] | None = None  # rows of a probing step, predicted cost

    def limit(self, sequence: int) -> int:
        """Most tokens that are worth drafting for this sequence; at least 1."""
        del sequence  # the same for all, so far
        return max(self.max_depth if self.fixed is None else self.fixed, 1)

    def choose(self, drafts: Sequence[Draft], base_rows: int) -> list[int]:
        """Choose the depths of the coming step.

        Args:
            drafts: one per sequence that decodes in this step; empty ones count, as each such
                sequence yields a token anyway.
            base_rows: rows of the step without any drafted token: one per decoding sequence, plus
                those of prompt chunks.

        Returns:
            The depth of each draft, 0 <= depth <= its length.
        """
        if self.fixed is not None:
            return [min(self.fixed, len(draft.tokens)) for draft in drafts]
        depths = [0] * len(drafts)
        self._probe = None
        sequences = len(drafts)
        pure = base_rows == sequences
        if not any(draft.tokens for draft in drafts) or (
            pure and self._costs.measurements(base_rows) < _SURE_OF_PLAIN
        ):
            self._earn(1.0)
            return depths

        gains = self._gains(drafts, corrected=True)
        if pure:
            # Unmeasured numbers of rows are tried by doubling, in case they cost far more than
            # assumed.
            gains = gains[: max(2 * self._costs.largest - base_rows, 1)]
        plain = self._costs.cost(sequences)
        beside = plain - self._costs.cost(base_rows)
        # By number of drafted rows: expected tokens of the step, and its cost.
        tokens = [float(sequences)]
        for gain, _ in gains:
            tokens.append(tokens[-1] + gain)
        costs = [beside + self._costs.cost(base_rows + rows) for rows in range(len(tokens))]
        rates = [t / c for t, c in zip(tokens, costs, strict=True)]
        best = max(range(len(rates)), key=rates.__getitem__)
        if rates[best] <= rates[0] * (1 + _MARGIN):
            best = 0
        if pure:
            best = self._maybe_probe(drafts, best, tokens, costs)
        self._earn(costs[best])
        for _, index in gains[:best]:
            depths[index] += 1
        return depths

    def observe_step(self, rows: int, seconds: float, pure: bool = True) -> None:
        """Learn the cost of a step.

        Args:
            rows: all its rows.
            seconds: its measured time, the choice of its tokens included.
            pure: whether all rows were decoding; steps with prompt rows are not learned from.
        """
        if not pure or rows < 1 or seconds <= 0.0:
            return
        if self._probe is not None and self._probe[0] == rows:
            surplus = self._costs.relative_seconds(seconds) - self._probe[1]
            self._credit -= min(max(surplus, 0.0), 1.0)
        self._probe = None
        self._costs.observe(rows, seconds)

    def observe(self, committed: Sequence[Committed]) -> None:
        """Compare the verified drafts' estimates with what became of them."""
        for part in committed:
            draft = part.drafted
            if draft is None or not draft.tokens:
                continue
            calibration = self._calibrations.setdefault(draft.drafter, _Calibration())
            # Tokens after the first wrong one were never judged.
            for index, estimate in enumerate(draft.acceptance[: part.accepted + 1]):
                calibration.add(estimate, index < part.accepted)

    def _gains(self, drafts: Sequence[Draft], *, corrected: bool) -> list[tuple[float, int]]:
        """(expected tokens gained, index of the draft) of every drafted token, best first."""
        gains: list[tuple[float, int]] = []
        for index, draft in enumerate(drafts):
            calibration = self._calibrations.get(draft.drafter)
            factor = calibration.factor if corrected and calibration is not None else 1.0
            product = 1.0
            for acceptance in draft.acceptance[: self.max_depth]:
                product *= min(acceptance * factor, _MAX_ACCEPTANCE)
                gains.append((product, index))
                if product < _NEGLIGIBLE:
                    break
        if len(drafts) > 1:
            gains.sort(key=lambda gain: -gain[0])
        return gains

    def _earn(self, cost: float) -> None:
        self._credit = min(self._credit + _PROBE_SHARE * cost, _PROBE_CREDIT)

    def _maybe_probe(
        self, drafts: Sequence[Draft], best: int, tokens: list[float], costs: list[float]
    ) -> int:
        """The number of drafted rows: `best`, or another one that is worth a try now."""
        if self._credit <= 0.0:
            return best
        rate = tokens[best] / costs[best]
        wanted = rate * (1 + _MARGIN)
        candidates = []
        for rows in range(len(tokens)):
            # Drafted rows need a chance to win, and never make a step cheaper. Plain decoding is
            # what all is compared with: it is always worth measuring.
            hoped = self._costs.hoped(len(drafts) + rows)
            uncertain = hoped < costs[rows] and rows != best
            if uncertain and (rows == 0 or tokens[rows] / max(hoped, costs[0]) > wanted):
                candidates.append(rows)
        if best == 0 and self._trusted_rate(drafts) > wanted:
            candidates.append(1)
        if not candidates:
            return best

        losses = {rows: costs[rows] - tokens[rows] / rate for rows in candidates}
        choice = min(candidates, key=losses.__getitem__)
        if losses[choice] > self._credit:
            return best
        self._credit -= losses[choice]
        self._probe = (len(drafts) + choice, costs[choice])
        return choice

    def _trusted_rate(self, drafts: Sequence[Draft]) -> float:
        """The best rate of any depth if the drafters' own estimates were right."""
        total = float(len(drafts))
        best = 0.0
        gains = self._gains(drafts, corrected=False)
        for rows, (gain, _) in enumerate(gains, start=len(drafts) + 1):
            total += gain
            best = max(best, total / self._costs.cost(rows))
        return best
