"""The reference executor with a head, against a straight NumPy model that has no cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn.backends import BACKENDS, Chains
from nextn.backends.reference.operations import round_to_bfloat16
from nextn.sampling.reference import gumbel
from tests.backends.heads import chains_of, executor_of, fill, headed_model, rows_of
from tests.models.head_oracle import HeadOracle, bfloat16
from tests.support.tiny_gguf import TinyHead

TOKENS = [(7 * i * i + 3 * i + 11) % 300 for i in range(45)]  # beyond the window, and a block
FAMILIES = ["llama", "gemma3", "qwen3", "qwen2"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "head",
    [
        TinyHead(),
        TinyHead(hidden_kind="pre", own_norm=False),
        TinyHead(draft_vocab=range(0, 320, 3)),
        TinyHead(own_output=True, own_table=True),
        TinyHead(own_output=True, draft_vocab=range(1, 320, 2), hidden_kind="post"),
    ],
    ids=lambda head: f"{head.hidden_kind},{head.draft_vocab},{head.own_output}",
)
def test_drafts_are_those_of_the_formulas(family: str, head: TinyHead, tmp_path: Path) -> None:
    model, weights = headed_model(tmp_path / "tiny.gguf", family, head)
    oracle = HeadOracle(
        family,
        weights,
        hidden_kind=head.hidden_kind or "post",
        draft_vocab=None if head.draft_vocab is None else list(head.draft_vocab),
    )
    with executor_of(model, "reference") as executor:
        fill(executor, TOKENS, [10, 1, 7])
        last = len(TOKENS) - 1
        rows = rows_of([(0, last, TOKENS[last:])], wanted=[0])
        drafted = executor.draft(rows, chains_of([5]))
        tokens, probabilities = oracle.draft(TOKENS, 5)
        assert drafted.tokens.tolist() == [tokens]
        np.testing.assert_allclose(drafted.probabilities[0], probabilities, rtol=1e-2)
        # The trunk is not disturbed, and computes the drafted positions anew.
        logits = executor.step(rows_of([(0, last, [TOKENS[last], *tokens])], wanted=[0]))
        expected = oracle.trunk([*TOKENS, *tokens])[0][-1]
        np.testing.assert_allclose(logits[0], expected, atol=2e-4)


def test_caught_up_rows_start_the_chain_in_the_same_call(tmp_path: Path) -> None:
    model, weights = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead())
    with executor_of(model, "reference") as executor:
        executor.step(rows_of([(1, 0, TOKENS[:-1])]))
        drafted = executor.draft(rows_of([(1, 0, TOKENS)], wanted=[1]), chains_of([3]))
    assert drafted.tokens.tolist() == [HeadOracle("llama", weights).draft(TOKENS, 3)[0]]


def test_several_chains_draft_what_each_drafts_alone(tmp_path: Path) -> None:
    model, weights = headed_model(tmp_path / "tiny.gguf", "qwen3", TinyHead())
    oracle = HeadOracle("qwen3", weights)
    texts = [TOKENS[:20], TOKENS[5:12], TOKENS[9:42]]
    with executor_of(model, "reference") as executor:
        executor.step(rows_of([(slot, 0, text[:-1]) for slot, text in enumerate(texts)]))
        rows = rows_of([(slot, 0, text) for slot, text in enumerate(texts)], wanted=[0, 2])
        drafted = executor.draft(rows, chains_of([2, 4]))
    assert drafted.counts.tolist() == [2, 4]
    assert drafted.tokens[0, :2].tolist() == oracle.draft(texts[0], 2)[0]
    assert drafted.tokens[1].tolist() == oracle.draft(texts[2], 4)[0]


def test_a_chain_ends_where_it_gets_too_unlikely(tmp_path: Path) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead())
    chances = np.zeros((1, 3, 16), np.float32)
    chances[:, 0], chances[:, 1], chances[:, 2] = 0.9, 0.8, 0.5
    with executor_of(model, "reference") as executor:
        for least, count in ((0.0, 6), (0.19, 4), (0.37, 3), (0.7, 3), (0.73, 2), (0.95, 1)):
            rows = rows_of([(0, 0, TOKENS[:1])], wanted=[0])
            drafted = executor.draft(rows, chains_of([6], least=least, chances=chances))
            assert drafted.counts.tolist() == [count]
            expected = np.array([0.9, 0.8, 0.5, 0.5, 0.5, 0.5], np.float32)[:count]
            np.testing.assert_array_equal(drafted.chances[0, :count], expected)


def test_a_sampled_draft_takes_the_noise_of_its_position_and_token(tmp_path: Path) -> None:
    ids = list(range(2, 320, 5))
    model, weights = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead(draft_vocab=ids))
    oracle = HeadOracle("llama", weights, draft_vocab=ids)
    text, hidden = list(TOKENS), oracle.trunk(TOKENS)[1][:-1]
    for _ in range(4):
        logits, own = oracle.head(text, hidden)
        noise = gumbel(123, len(text), np.array(ids, np.int32))
        text.append(ids[int(np.argmax(logits[-1] / 0.9 + noise))])
        hidden = np.concatenate((hidden, own[-1:]))
    with executor_of(model, "reference") as executor:
        fill(executor, TOKENS)
        rows = rows_of([(0, len(TOKENS) - 1, TOKENS[-1:])], wanted=[0])
        drafted = executor.draft(rows, chains_of([4], temperature=0.9, seeds=123))
    assert drafted.tokens[0].tolist() == text[len(TOKENS) :]


def test_rounding_to_bfloat16_is_to_the_nearest_even() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(5000) * 2.0 ** rng.integers(-40, 40, 5000)).astype(np.float32)
    halfway = np.float32(1) + np.float32(2**-8) * np.arange(0, 9, dtype=np.float32)
    x = np.concatenate((x, halfway, -halfway, [0.0, -0.0])).astype(np.float32)
    np.testing.assert_array_equal(round_to_bfloat16(x), bfloat16(x.astype(np.float64)))
    special = np.array([np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(round_to_bfloat16(special), special)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_and_chains_that_break_the_rules_are_refused(backend: str, tmp_path: Path) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead())
    rows = rows_of([(0, 0, [1, 2])], wanted=[0])
    with executor_of(model, backend) as executor:
        wrong = [
            (rows, Chains.none(), "not as many chains"),
            (rows, chains_of([1, 1]), "not as many chains"),
            (rows, chains_of([0]), "a depth is below 1"),
            (rows, chains_of([384]), "leaves its block table"),
            (rows, chains_of([1], temperature=-1.0), "temperature is negative"),
            (rows, chains_of([1], temperature=np.nan), "temperature is negative or not finite"),
            (rows, chains_of([1], chances=np.zeros((1, 0, 4), np.float32)), "chances is empty"),
            (rows_of([(0, 1, [400])]), Chains.none(), "a token id is outside"),
        ]
        early = rows_of([(0, 0, [1, 2])])
        early.wants_logits[0] = True
        wrong.append((early, chains_of([1]), "not the last of its slot"))
        outside = rows_of([(0, 31, [1])], wanted=[0])
        outside.block_tables[0, 1] = 10_000
        wrong.append((outside, chains_of([2]), "a block id is outside"))
        for bad_rows, chains, message in wrong:
            with pytest.raises(ValueError, match=message):
                executor.draft(bad_rows, chains)
        assert executor.draft(rows, chains_of([382])).counts.tolist() == [382]
    with (
        executor_of(model, backend, with_head=False) as executor,
        pytest.raises(ValueError, match=r"\[draft\] the executor has no head"),
    ):
        executor.draft(rows, chains_of([1]))
