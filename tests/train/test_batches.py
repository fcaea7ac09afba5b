from __future__ import annotations

import numpy as np
import pytest

from nextn.train.batches import make_batch, plan_batches, usable
from nextn.train.shards import StoredText


def text(length: int, written_from: int, index: int = 0) -> StoredText:
    tokens = (100 * index + np.arange(length)).astype(np.int32)
    hidden = np.repeat(tokens.astype(np.uint16)[:, None], 3, axis=1)
    return StoredText(index, "code", written_from, tokens, hidden)


def test_rows_predict_written_tokens_after_a_written_token() -> None:
    batch = make_batch([text(7, 4), text(5, 1, index=1)], longest=100)
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 4, 5], [100, 101, 102, 103, 0, 0]]
    assert batch.rows.tolist() == [4, 5, 6 + 1, 6 + 2, 6 + 3]
    assert batch.following.tolist() == [5, 6, 102, 103, 104]
    assert batch.chain_steps.tolist() == [1, 2, 1, 2, 3]
    flat = batch.hidden.reshape(-1, 3)
    assert flat[batch.rows, 0].tolist() == [4, 5, 101, 102, 103]


def test_long_texts_are_cut() -> None:
    batch = make_batch([text(50, 4)], longest=10)
    assert batch.tokens.shape == (1, 10)
    assert batch.following.tolist() == [5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(
    ("length", "written_from", "longest", "expected"),
    [(5, 3, 10, True), (5, 4, 10, False), (30, 12, 13, True), (30, 12, 12, False)],
)
def test_a_text_needs_a_position_to_train_on(
    length: int, written_from: int, longest: int, expected: bool
) -> None:
    assert usable(text(length, written_from), longest) is expected
    if expected:
        assert len(make_batch([text(length, written_from)], longest).rows) >= 1


@pytest.mark.parametrize("random", [False, True])
def test_every_text_is_in_one_batch_and_no_batch_is_too_large(random: bool) -> None:
    lengths = np.random.default_rng(1).integers(2, 300, 500)
    lengths[7] = 5000
    rng = np.random.default_rng(2) if random else None
    batches = plan_batches(lengths, 1000, rng)
    assert sorted(number for batch in batches for number in batch) == list(range(500))
    for batch in batches:
        assert len(batch) * lengths[batch].max() <= 1000 or len(batch) == 1


def test_there_is_little_padding() -> None:
    lengths = np.random.default_rng(1).integers(20, 400, 3000)
    batches = plan_batches(lengths, 4000, np.random.default_rng(3))
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()


def test_the_order_is_that_of_the_seed() -> None:
    lengths = np.random.default_rng(1).integers(20, 400, 100)
    one, two, three = (plan_batches(lengths, 999, np.random.default_rng(s)) for s in (4, 4, 5))
    assert one == two
    assert one != three
