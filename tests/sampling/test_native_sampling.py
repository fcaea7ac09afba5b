import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nextn import _native
from nextn.sampling import reference

# Few distinct values, so that ties and block borders (256) are common.
ROWS = hnp.arrays(
    np.float32,
    st.integers(1, 700),
    elements=st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 1.0, 1.5, 30.0]),
)
REALISTIC = [
    (np.random.default_rng(size).standard_normal(size) * 4).astype(np.float32)
    for size in (1, 255, 256, 257, 4099, 49_152)
]


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 800))
def test_scans_equal_their_definitions_with_many_ties(row: np.ndarray, k: int) -> None:
    assert _native.argmax(row) == reference.argmax(row)
    ids, values = _native.top_k(row, k)
    expected_ids, expected_values = reference.top_k(row, k)
    np.testing.assert_array_equal(ids, expected_ids)
    np.testing.assert_array_equal(values, expected_values)
    for threshold in (-np.inf, 0.0, 1.25, 1.5):
        np.testing.assert_array_equal(
            _native.at_least(row, threshold), reference.at_least(row, threshold)
        )


@pytest.mark.parametrize("row", REALISTIC, ids=lambda row: str(row.size))
@pytest.mark.parametrize("order", ["shuffled", "ascending", "descending"])
def test_top_k_equals_its_definition_in_any_order(row: np.ndarray, order: str) -> None:
    row = {"shuffled": row, "ascending": np.sort(row), "descending": np.sort(row)[::-1].copy()}[
        order
    ]
    for k in (1, 2, 40, 300, row.size):
        np.testing.assert_array_equal(_native.top_k(row, k)[0], reference.top_k(row, k)[0])


@pytest.mark.parametrize("row", REALISTIC, ids=lambda row: str(row.size))
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 20.0])
def test_logsumexp_is_accurate_to_a_millionth(row: np.ndarray, scale: float) -> None:
    row = row * np.float32(scale) + np.float32(3)
    assert _native.logsumexp(row) == pytest.approx(reference.logsumexp(row), abs=1e-6)


def test_logsumexp_of_banned_tokens_and_of_nan() -> None:
    row = np.array([-np.inf, 2.0, -np.inf, -200.0], np.float32)
    assert _native.logsumexp(row) == pytest.approx(2.0, abs=1e-6)
    assert _native.logsumexp(np.full(5, -np.inf, np.float32)) == -np.inf
    assert np.isnan(_native.logsumexp(np.array([1.0, np.nan], np.float32)))


@pytest.mark.parametrize("row", REALISTIC, ids=lambda row: str(row.size))
@pytest.mark.parametrize("temperature", [1e-30, 0.1, 0.8, 1.0, 5.0, 100.0])
def test_pruned_gumbel_argmax_equals_the_full_one(row: np.ndarray, temperature: float) -> None:
    for position in range(40 if row.size < 10_000 else 5):
        assert _native.gumbel_argmax(row, temperature, 99, position) == reference.gumbel_argmax(
            row, temperature, 99, position
        )


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sampled_from([0.3, 1.0, 3.0]), st.integers(0, 2**64 - 1), st.integers(0, 10**6))
def test_pruned_gumbel_argmax_with_ties_and_bans(
    row: np.ndarray, temperature: float, seed: int, position: int
) -> None:
    if np.isfinite(row.max()):
        got = _native.gumbel_argmax(row, temperature, seed, position)
        assert got == reference.gumbel_argmax(row, temperature, seed, position)
        assert np.isfinite(row[got])


@pytest.mark.parametrize("at", [0, 255, 256, 600])
def test_nan_anywhere_is_an_error(at: int) -> None:
    row = np.ones(601, np.float32)
    row[at] = np.nan
    for call in (
        lambda: _native.argmax(row),
        lambda: _native.top_k(row, 3),
        lambda: _native.gumbel_argmax(row, 1.0, 1, 1),
    ):
        with pytest.raises(ValueError, match="NaN"):
            call()


def test_impossible_arguments_are_errors() -> None:
    row = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="logits"):
        _native.argmax(np.empty(0, np.float32))
    for temperature in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="temperature"):
            _native.gumbel_argmax(row, temperature, 1, 1)
    with pytest.raises(TypeError):
        _native.argmax(row.astype(np.float64))  # type: ignore[arg-type]
