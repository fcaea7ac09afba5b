from __future__ import annotations

import numpy as np

from nextn.train.vocabulary import choose_vocabulary, coverage_of


def counts(**by_id: int) -> np.ndarray:
    result = np.zeros(100, np.int64)
    for name, count in by_id.items():
        result[int(name[1:])] = count
    return result


def test_the_most_frequent_tokens_are_chosen_in_the_order_of_their_ids() -> None:
    given = counts(**{f"t{i}": i for i in range(40, 90)})
    chosen = choose_vocabulary(given, most=16, coverage=1.0)
    assert chosen.dtype == np.int32
    assert chosen.tolist() == list(range(74, 90))


def test_coverage_ends_the_list_at_a_multiple_of_16() -> None:
    given = counts(**{f"t{i}": 1000 for i in range(20)}, t50=1)
    chosen = choose_vocabulary(given, most=96, coverage=0.999)
    assert len(chosen) == 32
    assert coverage_of(given, chosen) == 1.0


def test_tokens_are_chosen_in_any_case() -> None:
    given = counts(**{f"t{i}": 10 for i in range(50)})
    chosen = choose_vocabulary(given, most=16, coverage=1.0, always={99, 98})
    assert {98, 99} <= set(chosen.tolist())
    assert len(chosen) == 16


def test_a_token_of_an_earlier_list_is_ahead_of_one_that_is_rare() -> None:
    given = counts(**{f"t{i}": 10 for i in range(14)}, t20=1, t21=2, t22=1)
    chosen = choose_vocabulary(given, most=16, coverage=1.0, before=[50])
    assert chosen.tolist() == [*range(14), 21, 50]


def test_a_list_longer_than_the_vocabulary_is_the_vocabulary() -> None:
    chosen = choose_vocabulary(counts(t1=1), most=1000, coverage=1.0)
    assert len(chosen) == 16  # one token covers all; the least number is one group of rows
    everything = choose_vocabulary(np.ones(100, np.int64), most=1000, coverage=1.0)
    assert everything.tolist() == list(range(100))


def test_coverage_is_the_share_of_occurrences() -> None:
    given = counts(t3=3, t4=1)
    assert coverage_of(given, np.array([3], np.int32)) == 0.75
    assert coverage_of(np.zeros(5, np.int64), np.array([3], np.int32)) == 0.0
