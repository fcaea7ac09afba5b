"""What a head drafts from its logits: as the definition says, and as the trunk would choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextn import _native
from nextn.sampling import Sampler, SamplingParams, reference

SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
    {"temperature": 1.3, "top_k": 0, "top_p": 0.7, "min_p": 0.0},
    {"temperature": 3.0, "top_k": 0, "top_p": 0.999, "min_p": 0.0},  # more than the first prefix
    {"temperature": 1.3, "top_k": 0, "top_p": 1.0, "min_p": 0.01},
    {"temperature": 1.3, "top_k": 5, "top_p": 1.0, "min_p": 0.0},
    {"temperature": 1.3, "top_k": 900, "top_p": 0.5, "min_p": 0.2},
]
OFF = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def row_of(size: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(size) * 2).astype(np.float32)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("with_ids", [False, True])
@pytest.mark.parametrize("size", [1, 300, 3000])
def test_a_draft_is_what_its_definition_says(
    settings: dict[str, Any], with_ids: bool, size: int
) -> None:
    settings = OFF | settings
    for seed in range(30):
        row = row_of(size, seed)
        ids = np.sort(np.random.default_rng(seed).permutation(50_000)[:size]).astype(np.int32)
        token_ids = ids if with_ids else None
        got = _native.choose_draft(row, token_ids, 7 + seed, seed=seed, **settings)
        expected = reference.choose_draft(row, token_ids, 7 + seed, seed=seed, **settings)
        assert got[0] == expected[0]
        assert got[1] == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equal_logits_draft_what_the_sampler_chooses(settings: dict[str, Any]) -> None:
    settings = OFF | settings
    for seed in range(50):
        row = row_of(2000, 100 + seed)
        sampler = Sampler(SamplingParams(**settings), seed, row.size)
        index, _ = _native.choose_draft(row, None, 11, seed=seed, **settings)
        assert index == sampler.choose(row, [], 11).token


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_logits_without_a_choice_are_refused(temperature: float) -> None:
    for bad in ([1.0, np.nan], [1.0, np.inf], [-np.inf, -np.inf]):
        assert reference.choose_draft(
            np.array(bad, np.float32), None, 0, temperature=temperature, seed=0, **OFF
        ) == (-1, 0.0)
        with pytest.raises(ValueError, match="no finite largest"):
            _native.choose_draft(
                np.array(bad, np.float32), None, 0, temperature=temperature, seed=0, **OFF
            )
    with pytest.raises(ValueError, match="one token id for each"):
        _native.choose_draft(
            row_of(4, 0), np.zeros(3, np.int32), 0, temperature=temperature, seed=0, **OFF
        )
