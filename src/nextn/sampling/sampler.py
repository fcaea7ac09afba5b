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
from nextn.sampling.constraint import Follower, masked
from nextn.sampling.noise import gumbel
from nextn.sampling.params import SamplingParams
from nextn.sampling.penalties import penalise

_FIRST_PREFIX = 256
_PREFIX_GROWTH = 8


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
        if self.constraint is not None:
            # Before the filters: they choose among tokens that are allowed.
            mask = self.constraint.after(tokens).mask()
            if mask is not None:
                row = masked(row, mask)
        try:
            if params.temperature == 0.0:
                token = _native.argmax(row)
                if not math.isfinite(row[token]):
                    raise self._error(row, position)
            else:
                token = self._sample(row, position)
            if params.logprobs is None:
                return Choice(token)
            return _with_logprobs(token, logits, params.logprobs)
        except ValueError as error:
            raise self._error(row, position) from error

    def _adjust(self, logits: NDArray[np.float32], tokens: Sequence[int]) -> NDArray[np.float32]:
        """A copy of the logits with bias and penalties applied, in this order."""
        row = logits.copy()
        row[self._bias_ids] += self._bias
        if self.params.has_penalties:
            penalise(row, tokens, self.params)
        return row

    def _sample(self, logits: NDArray[np.float32], position: int) -> int:
        """Filter, then the argmax of scaled logits + noise."""
        params = self.params
        if not params.top_k and params.typical_p == 1.0 and params.top_p == 1.0:
            if params.min_p == 0.0:
                return _native.gumbel_argmax(logits, params.temperature, self.seed, position)
            largest = float(logits[_native.argmax(logits)])
            ids = _native.at_least(logits, filters.min_p_threshold(largest, params.min_p))
            values = logits[ids]
        else:
            ids, values = self._candidates(logits)
            largest = float(values[0])
        if not math.isfinite(largest):
            raise self._error(logits, position)
        scores = (values.astype(np.float64) - largest) / params.temperature
        scores += gumbel(self.seed, position, ids)
        return int(ids[scores.argmax()])

    def _candidates(
        self, logits: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Ids and logits, descending, of what top-k, typical-p, top-p and min-p leave."""
        params = self.params
        if params.top_k or params.typical_p < 1.0:
            ids, values = _native.top_k(logits, params.top_k or logits.size)
            if not math.isfinite(values[0]):
                return ids, values
            if params.typical_p < 1.0:
                kept = filters.typical_p(values, params.typical_p)
                ids, values = ids[kept], values[kept]
            if params.top_p < 1.0:
                count = filters.top_p(filters.probabilities(values), params.top_p)
                ids, values = ids[:count], values[:count]
        else:
            ids, values = _top_p_prefix(logits, params.top_p)
        if params.min_p > 0.0 and values.size > 1:
            threshold = filters.min_p_threshold(float(values[0]), params.min_p)
            count = int(np.count_nonzero(values.astype(np.float64) >= threshold))
            ids, values = ids[:count], values[:count]
        return ids, values

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


def _top_p_prefix(
    logits: NDArray[np.float32], p: float
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Top-p over the whole vocabulary, without sorting more of it than needed."""
    log_total = _native.logsumexp(logits)
    if not math.isfinite(log_total):
        raise ValueError("no distribution")
    size = _FIRST_PREFIX
    while True:
        ids, values = _native.top_k(logits, size)
        count = filters.top_p(filters.probabilities(values, log_total), p)
        if count is not None or size >= logits.size:
            return ids[:count], values[:count]
        size *= _PREFIX_GROWTH


def _with_logprobs(token: int, logits: NDArray[np.float32], alternatives: int) -> Choice:
    """The choice with its own log probability and those of the most probable tokens."""
    log_total = _native.logsumexp(logits)
    top: tuple[tuple[int, float], ...] = ()
    if alternatives:
        ids, values = _native.top_k(logits, alternatives)
        log_probabilities = values.astype(np.float64) - log_total
        top = tuple(zip(ids.tolist(), log_probabilities.tolist(), strict=True))
    return Choice(token, float(logits[token]) - log_total, top)
