import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from scipy import stats

from nextn import _native
from nextn.sampling import noise, reference

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
IDS = np.arange(200_000, dtype=np.int32)


def unmix(z: int) -> int:
    """Inverse of the finaliser, from the definition of its steps."""
    z = unshift(z, 31) * pow(0x94D049BB133111EB, -1, 1 << 64) & MASK
    z = unshift(z, 27) * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & MASK
    return unshift(z, 30)


def unshift(z: int, by: int) -> int:
    result = z
    for _ in range(64 // by + 1):
        result = z ^ (result >> by)
    return result


def seed_that_gives(bits: int, position: int, token: int) -> int:
    state = (unmix(bits) - (token + 1) * GAMMA) & MASK
    by_seed = (unmix(state) - (position + 1) * GAMMA) & MASK
    return (unmix(by_seed) - GAMMA) & MASK


def exact_gumbel(bits: int) -> float:
    getcontext().prec = 60
    w = (Decimal(bits) + Decimal("0.5")) / Decimal(2**64)
    return float(-((-(1 - w).ln()).ln()))


@pytest.mark.parametrize(("seed", "position"), [(0, 0), (1, 0), (2**64 - 1, 131_071), (42, 7)])
def test_native_noise_equals_its_definition(seed: int, position: int) -> None:
    ids = np.concatenate([IDS, [2**31 - 1]]).astype(np.int32)
    np.testing.assert_allclose(
        noise.gumbel(seed, position, ids),
        reference.gumbel(seed, position, ids),
        rtol=1e-14,
        atol=1e-15,
    )


@pytest.mark.parametrize(
    "bits", [0, 1, 2, 3, 1000, 2**20, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 2**11, 2**64 - 1]
)
def test_both_tails_are_exact_to_the_last_hash(bits: int) -> None:
    position, token = 5, 77
    seed = seed_that_gives(bits, position, token)
    ids = np.array([token], np.int32)
    assert int(reference.hash_bits(seed, position, ids)[0]) == bits
    assert noise.gumbel(seed, position, ids)[0] == pytest.approx(exact_gumbel(bits), rel=1e-13)


def test_a_subset_of_ids_gets_the_noise_of_the_whole() -> None:
    whole = noise.gumbel(3, 9, IDS)
    some = np.array([199_999, 0, 4, 4, 70_000], np.int32)
    np.testing.assert_array_equal(noise.gumbel(3, 9, some), whole[some])


def test_noise_is_gumbel_distributed_along_ids_positions_and_seeds() -> None:
    one = np.array([123], np.int32)
    samples = {
        "ids": noise.gumbel(1, 1, IDS),
        "positions": np.array([noise.gumbel(1, p, one)[0] for p in range(50_000)]),
        "seeds": np.array([noise.gumbel(s, 1, one)[0] for s in range(50_000)]),
    }
    for name, sample in samples.items():
        assert stats.kstest(sample, stats.gumbel_r.cdf).pvalue > 1e-3, name


def test_the_largest_of_a_thousand_has_its_exact_distribution() -> None:
    # n times the smallest of n exponential variables is exponential: this sees the upper tail.
    largest = np.concatenate(
        [noise.gumbel(7, p, IDS).reshape(-1, 1000).max(axis=1) for p in range(20)]
    )
    assert stats.kstest(1000 * np.exp(-largest), stats.expon.cdf).pvalue > 1e-3
    # All 4 million: the smallest E of them times 4e6 is one exponential variable.
    assert 1e-3 < 4e6 * math.exp(-largest.max()) < 7


def test_neighbouring_seeds_positions_and_ids_are_uncorrelated() -> None:
    base = noise.gumbel(10, 20, IDS)
    for other in (
        noise.gumbel(11, 20, IDS),
        noise.gumbel(10, 21, IDS),
        noise.gumbel(20, 10, IDS),
        noise.gumbel(10, 20, IDS + 1),
    ):
        assert abs(np.corrcoef(base, other)[0, 1]) < 4.5 / math.sqrt(IDS.size)


def test_every_input_bit_flips_every_output_bit_half_of_the_time() -> None:
    rng = np.random.default_rng(0)
    trials = 400

    def flips(change_seed: int, change_position: int, change_id: int) -> np.ndarray:
        total = np.zeros(64)
        for _ in range(4):
            seed = int(rng.integers(0, 1 << 62))
            position = int(rng.integers(0, 1 << 17))
            ids = rng.integers(0, 1 << 18, trials // 4).astype(np.int32)
            a = reference.hash_bits(seed, position, ids)
            b = reference.hash_bits(seed ^ change_seed, position ^ change_position, ids ^ change_id)
            total += ((a ^ b)[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).sum(axis=0)
        return total / trials

    changes = [(1 << i, 0, 0) for i in range(64)]
    changes += [(0, 1 << i, 0) for i in range(17)] + [(0, 0, 1 << i) for i in range(18)]
    table = np.array([flips(*change) for change in changes])
    assert abs(table.mean() - 0.5) < 0.002
    assert abs(table.mean(axis=1) - 0.5).max() < 0.02
    assert abs(table - 0.5).max() < 5 * 0.5 / math.sqrt(trials)


def test_the_binding_refuses_what_is_not_int32() -> None:
    with pytest.raises(TypeError):
        _native.gumbel(1, 2, np.array([1, 2], np.int64))  # type: ignore[arg-type]
