"""The native scans and the noise, defined in NumPy.

Written to be read, and what the tests compare `native/sampling` with. Nothing here runs in a step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64: a bijection of 64-bit words in which every input bit counts."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def split_mix(state: int, index: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Outputs number `index` of the SplitMix64 generator that starts at `state`."""
    return mix(np.uint64(state & _MASK) + (index + np.uint64(1)) * np.uint64(_GAMMA))


def hash_bits(seed: int, position: int, ids: NDArray[np.int32]) -> NDArray[np.uint64]:
    """64 random bits for each token id: three chained generators, seed -> position -> id."""
    by_seed = split_mix(seed, np.array([0], np.uint64))
    by_position = split_mix(int(by_seed[0]), np.array([position], np.uint64))
    return split_mix(int(by_position[0]), ids.astype(np.uint64))


def gumbel_of_bits(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Standard Gumbel noise of uniform 64-bit words, with full precision in both tails.

    With w = (bits + 1/2) / 2**64, E = -log(1 - w) is exponential and -log(E) is Gumbel. Large
    noise comes from small w, where floating point is finest; above 1/2, where w would be rounded
    (to 1, at worst), the complement is taken instead.
    """
    low = bits < np.uint64(1 << 63)
    w = (np.where(low, bits, ~bits).astype(np.float64) + 0.5) * 2.0**-64
    return -np.log(np.where(low, -np.log1p(-w), -np.log(w)))


def gumbel(seed: int, position: int, ids: NDArray[np.int32]) -> NDArray[np.float64]:
    """The noise of token `ids` at `position`: see `nextn.sampling.noise`."""
    return gumbel_of_bits(hash_bits(seed, position, ids))


def argmax(logits: NDArray[np.float32]) -> int:
    """The id of the largest logit, the lowest id among equals."""
    return int(np.argmax(logits))


def top_k(logits: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Ids and values of the k largest logits, largest first, equal ones by id."""
    ids = np.argsort(-logits, kind="stable")[:k].astype(np.int32)
    return ids, logits[ids]


def logsumexp(logits: NDArray[np.float32]) -> float:
    """log(sum(exp(logits)))."""
    top = float(logits.max())
    return top + float(np.log(np.exp(logits.astype(np.float64) - top).sum()))


def at_least(logits: NDArray[np.float32], threshold: float) -> NDArray[np.int32]:
    """The ids, ascending, of the logits >= threshold."""
    return np.flatnonzero(logits.astype(np.float64) >= threshold).astype(np.int32)


def gumbel_argmax(logits: NDArray[np.float32], temperature: float, seed: int, position: int) -> int:
    """The id with the largest (logit - largest logit) / temperature + noise."""
    ids = np.arange(logits.size, dtype=np.int32)
    scaled = (logits.astype(np.float64) - float(logits.max())) / temperature
    return int(np.argmax(scaled + gumbel(seed, position, ids)))


def choose_draft(
    logits: NDArray[np.float32],
    token_ids: NDArray[np.int32] | None,
    position: int,
    *,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
) -> tuple[int, float]:
    """What a head drafts: what `Sampler` would choose from these logits, and how sure the head is.

    Args:
        logits: float32 [n].
        token_ids: int32 [n], the token of each logit, whose noise it gets; None: its index.
        position: of the drafted token.
        temperature: this and the others as in `SamplingParams`.
        top_k: see there.
        top_p: see there.
        min_p: see there.
        seed: of the noise.

    Returns:
        The index of the chosen logit, and its probability at temperature 1 without filters; -1 and
        0 if a logit is NaN, or the largest is infinite.
    """
    # The largest is NaN if any is.
    if not np.isfinite(logits.max()):
        return -1, 0.0
    if temperature == 0.0:
        index = argmax(logits)
    else:
        order = np.argsort(-logits, kind="stable").astype(np.int32)
        order = order[: top_k or logits.size]
        values = logits[order].astype(np.float64)
        if top_p < 1.0:
            weights = np.exp(values - values[0])
            enough = np.searchsorted(np.cumsum(weights / weights.sum()), top_p)
            order, values = order[: enough + 1], values[: enough + 1]
        if min_p > 0.0:
            kept = values >= values[0] + np.log(min_p)
            order, values = order[kept], values[kept]
        ids = order if token_ids is None else token_ids[order]
        scores = (values - values[0]) / temperature + gumbel(seed, position, ids)
        index = int(order[np.argmax(scores)])
    return index, float(np.exp(float(logits[index]) - logsumexp(logits)))
