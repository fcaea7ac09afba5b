"""Perplexity, and how far two models' distributions are apart, as llama.cpp's tool computes them.

What is compared with, the base, is known by log-probabilities of 16 bits each (`logits_file`),
whether they were stored or not, so that figures are the same either way and can be compared with
others'. The other model's logits are exact. All errors are standard errors of the mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nextn.tools.compare.logits_file import RANGE, Coded

Doubles = NDArray[np.float64]

PERCENTILES = (100.0, 99.9, 99.0, 95.0, 90.0, 50.0, 10.0, 5.0, 1.0, 0.1, 0.0)
"""Of a distribution over positions; 100 is the maximum, 50 the median, 0 the minimum."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A figure over all positions.

    Attributes:
        mean: with its error.
        percentiles: those of `PERCENTILES`.
    """

    mean: Estimate
    percentiles: dict[float, float]

    @classmethod
    def of(cls, values: Doubles) -> Distribution:
        """Describe float64 [positions]; between two of them, percentiles are interpolated."""
        found = np.percentile(values, PERCENTILES)
        return cls(mean_of(values), dict(zip(PERCENTILES, found.tolist(), strict=True)))


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a model is from the base.

    Attributes:
        log_ratio: log(perplexity / perplexity of the base); its error allows for both being
            measured on the same tokens.
        ratio: perplexity / perplexity of the base.
        correlation: of the log-probabilities of the true tokens.
        kl: Kullback-Leibler divergence of each position, in nats, over the tokens to which the base
            gives more than exp(-16).
        kl_exact: mean of the same over all tokens and without rounding the base to 16 bits; None if
            the base was read from a file.
        probability: change of the probability of the true token.
        probability_rms: root of the mean square of that.
        same_top: share of positions at which both find the same token most probable.
    """

    log_ratio: Estimate
    ratio: Estimate
    correlation: float
    kl: Distribution
    kl_exact: Estimate | None
    probability: Distribution
    probability_rms: Estimate
    same_top: Estimate


def mean_of(values: Doubles) -> Estimate:
    """The mean of float64 [positions], and its standard error."""
    count = len(values)
    mean = float(values.mean())
    variance = max(float((values**2).mean()) - mean**2, 0.0)
    return Estimate(mean, math.sqrt(variance / (count - 1)) if count > 1 else 0.0)


def perplexity_of(losses: Doubles) -> Estimate:
    """exp(mean) of the negative log-probabilities of the true tokens, float64 [positions]."""
    mean = mean_of(losses)
    value = _exp(mean.value)
    return Estimate(value, value * mean.error)


def losses_of(logits: NDArray[np.float32], tokens: NDArray[np.int32]) -> Doubles:
    """Negative log-probabilities of the true tokens.

    Args:
        logits: float32 [rows, vocabulary].
        tokens: int32 [rows].

    Returns:
        float64 [rows].
    """
    most = logits.max(axis=1)
    sums = np.exp(logits - most[:, None]).sum(axis=1, dtype=np.float64)
    true = logits[np.arange(len(tokens)), tokens].astype(np.float64)
    losses: Doubles = most.astype(np.float64) + np.log(sums) - true
    return losses


@dataclass(slots=True)
class Positions:
    """Collects what is known about each position, chunk by chunk; a few numbers for each."""

    losses: list[Doubles] = field(default_factory=list)
    base_losses: list[Doubles] = field(default_factory=list)
    kl: list[Doubles] = field(default_factory=list)
    kl_exact: list[Doubles] = field(default_factory=list)
    same_top: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(
        self,
        logits: NDArray[np.float32],
        base: Coded,
        tokens: NDArray[np.int32],
        base_logits: NDArray[np.float32] | None = None,
    ) -> None:
        """Compare some positions.

        Args:
            logits: float32 [rows, vocabulary], of the model.
            base: the base's log-probabilities of the same rows.
            tokens: int32 [rows], what follows.
            base_logits: the base's logits, if they are known.
        """
        rows = np.arange(len(tokens))
        log_base = base.decode()
        log_model = _log_softmax(logits)
        counted = log_base > -RANGE
        weights = np.exp(log_base, where=counted, out=np.zeros_like(log_base))
        differences = np.where(counted, log_base - log_model, np.float32(0))
        self.kl.append((weights * differences).sum(axis=1, dtype=np.float64))
        self.same_top.append(logits.argmax(axis=1) == base.codes.argmax(axis=1))
        self.losses.append(losses_of(logits, tokens))
        self.base_losses.append(-log_base[rows, tokens].astype(np.float64))
        if base_logits is not None:
            exact = _log_softmax(base_logits)
            terms = np.exp(exact) * (exact - log_model)
            self.kl_exact.append(terms.sum(axis=1, dtype=np.float64))

    def divergence(self) -> Divergence:
        """Sum up; at least one position must have been added."""
        losses, base = np.concatenate(self.losses), np.concatenate(self.base_losses)
        changes = np.exp(-losses) - np.exp(-base)
        ratio = _log_ratio(losses, base)
        squares = mean_of(changes**2)
        rms = math.sqrt(squares.value)
        same = np.concatenate(self.same_top)
        share = float(same.mean())
        more = max(len(same) - 1, 1)
        times = _exp(ratio.value)
        return Divergence(
            log_ratio=ratio,
            ratio=Estimate(times, times * ratio.error),
            correlation=_correlation(losses, base),
            kl=Distribution.of(np.concatenate(self.kl)),
            kl_exact=mean_of(np.concatenate(self.kl_exact)) if self.kl_exact else None,
            probability=Distribution.of(changes),
            probability_rms=Estimate(rms, squares.error / (2 * rms) if rms else 0.0),
            same_top=Estimate(share, math.sqrt(share * (1 - share) / more)),
        )


def _log_ratio(losses: Doubles, base: Doubles) -> Estimate:
    """Difference of the means; var(a - b) = var(a) + var(b) - 2 cov(a, b)."""
    difference = float(losses.mean()) - float(base.mean())
    one, two = mean_of(losses).error ** 2, mean_of(base).error ** 2
    variance = one + two - 2 * _covariance(losses, base) / max(len(losses) - 1, 1)
    return Estimate(difference, math.sqrt(max(variance, 0.0)))


def _covariance(one: Doubles, two: Doubles) -> float:
    return float((one * two).mean()) - float(one.mean()) * float(two.mean())


def _correlation(one: Doubles, two: Doubles) -> float:
    product = float(one.std()) * float(two.std())
    return _covariance(one, two) / product if product else 1.0


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    most = logits.max(axis=1, keepdims=True)
    sums = np.exp(logits - most).sum(axis=1, keepdims=True, dtype=np.float64)
    result: NDArray[np.float32] = logits - (most + np.log(sums).astype(np.float32))
    return result


def _exp(value: float) -> float:
    """exp, but infinite where a float ends."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
