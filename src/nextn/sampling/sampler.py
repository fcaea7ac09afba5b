"""Choosing one token from one row of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nextn import _native
from nextn.errors import NextnError
from nextn.sampling import filters
from nextn.sampling.constraint import Constraint, Follower, Masking
from nextn.sampling.noise import gumbel
from nextn.sampling.params import SamplingParams
from nextn.sampling.penalties import penalise


class LogitsError(NextnError):
    """Logits from which no token can be chosen: NaN, infinite, or every token is banned."""


class NoTokenError(LogitsError):
    """A request that bans every token that the model could choose."""


class Choice(NamedTuple):
    """The token that a sampler chose for one position.

    Attributes:
        token: its id.
        logprob: its natural-log probability under the raw logits (before bias, penalties, filters
            and temperature); None unless the request asked for log probabilities.
        top_logprobs: the most probable (id, logprob) pairs under the raw logits, best first.
    """

    token: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Sampler:
    """Chooses the tokens of one sequence, for the trunk and for the heads that draft for it.

    `choose` is a pure function of the settings and of its arguments: a constraint is brought to the
    state that these give.

    Args:
        params: checked settings of the request (`SamplingParams.check`); its own `seed` is unused.
        seed: the seed of the noise, 0 <= seed < 2**64.
        vocab_size: length of a row of logits.
        constraint: says which tokens are allowed, if not all are.
    """

    __slots__ = (
        "_bias",
        "_bias_ids",
        "_changes_logits",
        "_masking",
        "constraint",
        "params",
        "seed",
        "vocab_size",
    )

    def __init__(
        self,
        params: SamplingParams,
        seed: int,
        vocab_size: int,
        constraint: Follower | None = None,
    ) -> None:
        self.params = params
        self.seed = seed
        self.vocab_size = vocab_size
        self.constraint = constraint
        self._masking = Masking()
        self._bias_ids = np.array(list(params.logit_bias.keys()), np.int32)
        self._bias = np.array(list(params.logit_bias.values()), np.float32)
        self._changes_logits = params.has_penalties or self._bias.size > 0

    def choose(self, logits: NDArray[np.float32], tokens: Sequence[int], position: int) -> Choice:
        """Choose the token of one position.

        Among the candidates that survive bias, penalties, constraint and filters it is the one with
        the largest (logit - largest logit) / temperature + noise(seed, position, id), which is a
        draw from the softmax of the surviving logits / temperature; at temperature 0 the largest
        logit, the lowest id among equals.

        Args:
            logits: float32 [vocab_size], contiguous; not changed.
            tokens: all tokens before `position`; read only by the penalties and the constraint.
            position: index in the sequence that the chosen token will have.

        Raises:
            LogitsError: a logit is NaN, the largest is infinite, or no token is allowed.
            ConstraintError: it cannot be said which tokens are allowed.
        """
        params = self.params
        row = self._adjust(logits, tokens) if self._changes_logits else logits
        try:
            token = None
            if self.constraint is not None:
                row, token = self._constrain(row, self.constraint.after(tokens))
            if token is None:
                token = self._choose(row, position)
            elif not math.isfinite(row[token]):
                raise self._error(row, position)
            if params.logprobs is None:
                return Choice(token)
            return _with_logprobs(token, logits, params.logprobs)
        except ValueError as error:
            raise self._error(row, position) from error

    def _constrain(
        self, row: NDArray[np.float32], constraint: Constraint
    ) -> tuple[NDArray[np.float32], int | None]:
        """The row without the tokens that are not allowed, and the token if it is known by then.

        The filters come after, and choose among tokens that are allowed.
        """
        forced = constraint.forced()
        if forced:
            return row, forced[0]
        if self.params.temperature == 0.0:
            # If the largest of all logits is allowed, it is the largest of those that are.
            largest = _native.argmax(row)
            if constraint.allowed([largest]):
                return row, largest
        mask = constraint.mask()
        return row if mask is None else self._masking.masked(row, mask), None

    def _adjust(self, logits: NDArray[np.float32], tokens: Sequence[int]) -> NDArray[np.float32]:
        """A copy of the logits with bias and penalties applied, in this order."""
        row = logits.copy()
        row[self._bias_ids] += self._bias
        if self.params.has_penalties:
            penalise(row, tokens, self.params)
        return row

    def _choose(self, row: NDArray[np.float32], position: int) -> int:
        """Filter, then the argmax of scaled logits + noise."""
        params = self.params
        if params.typical_p < 1.0 and params.temperature > 0.0:
            return self._choose_typical(row, position)
        return _native.choose(
            row,
            position,
            params.temperature,
            params.top_k,
            params.top_p,
            params.min_p,
            self.seed,
        )

    def _choose_typical(self, logits: NDArray[np.float32], position: int) -> int:
        """The same with typical-p among the filters, which the native `choose` does not have."""
        params = self.params
        ids, values = _native.top_k(logits, params.top_k or logits.size)
        largest = float(values[0])
        if not math.isfinite(largest):
            raise self._error(logits, position)
        kept = filters.typical_p(values, params.typical_p)
        ids, values = ids[kept], values[kept]
        if params.top_p < 1.0:
            count = filters.top_p(filters.probabilities(values), params.top_p)
            ids, values = ids[:count], values[:count]
        if params.min_p > 0.0 and values.size > 1:
            threshold = filters.min_p_threshold(float(values[0]), params.min_p)
            count = int(np.count_nonzero(values.astype(np.float64) >= threshold))
            ids, values = ids[:count], values[:count]
        # At a tiny temperature all but the largest become -inf, as they should.
        with np.errstate(over="ignore"):
            scores = (values.astype(np.float64) - float(values[0])) / params.temperature
        scores += gumbel(self.seed, position, ids)
        return int(ids[scores.argmax()])

    def _error(self, row: NDArray[np.float32], position: int) -> LogitsError:
        """The reason why `row` has no choice."""
        where = f"logits of position {position}"
        if row.shape != (self.vocab_size,):
            return LogitsError(f"{where}: shape {row.shape}, expected ({self.vocab_size},)")
        bad = np.flatnonzero(np.isnan(row) | np.isposinf(row))
        if bad.size:
            return LogitsError(
                f"{where}: the logit of token {bad[0]} is {row[bad[0]]} ({bad.size} such tokens); "
                "the model file is damaged, or its computation overflowed"
            )
        if self.constraint is not None:
            return NoTokenError(
                f"{where}: the model has no token that the grammar allows here, or logit_bias bans "
                "all of them"
            )
        return NoTokenError(f"{where}: every token is banned; allow at least one in logit_bias")


def _with_logprobs(token: int, logits: NDArray[np.float32], alternatives: int) -> Choice:
    """The choice with its own log probability and those of the most probable tokens."""
    log_total = _native.logsumexp(logits)
    top: tuple[tuple[int, float], ...] = ()
    if alternatives:
        ids, values = _native.top_k(logits, alternatives)
        log_probabilities = values.astype(np.float64) - log_total
        top = tuple(zip(ids.tolist(), log_probabilities.tolist(), strict=True))
    return Choice(token, float(logits[token]) - log_total, top)
