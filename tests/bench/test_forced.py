from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from nextn.backends import BLOCK_TOKENS, Chains, Executor, Rows
from nextn.bench.mtp.forced import forced_acceptance
from tests.backends.heads import BLOCKS, executor_of, headed_model
from tests.support.tiny_gguf import TinyHead

PROMPT = [1, *range(40, 75)]
LENGTH = 40
DEPTH = 4


def rows_of(tokens: Sequence[int], start: int, *, wants: bool) -> Rows:
    """The rows from `start` on; the last one wants logits if any is to."""
    positions = np.arange(start, len(tokens), dtype=np.int32)
    return Rows(
        np.array(tokens[start:], np.int32),
        positions,
        np.zeros(len(positions), np.int32),
        (positions == len(tokens) - 1) & wants,
        np.arange(BLOCKS, dtype=np.int32)[np.newaxis],
    )


def greedy_text(executor: Executor) -> list[int]:
    tokens = list(PROMPT)
    for _ in range(LENGTH):
        tokens.append(int(executor.step(rows_of(tokens, 0, wants=True))[0].argmax()))
    return tokens[len(PROMPT) :]


def chain_after(executor: Executor, tokens: Sequence[int], depth: int) -> list[int]:
    """What the head drafts after a text, everything computed anew."""
    if len(tokens) > 1:
        executor.step(rows_of(tokens[:-1], 0, wants=False))
    floats, integers = np.zeros(1, np.float64), np.zeros(1, np.int32)
    chains = Chains(
        np.array([depth], np.int32),
        *(floats, integers, np.ones(1, np.float64), floats, np.zeros(1, np.uint64), floats),
        np.ones((1, 1, 1), np.float32),
    )
    drafted = executor.draft(rows_of(tokens, 0, wants=True), chains)
    assert drafted.counts.tolist() == [depth]
    return drafted.tokens[0].tolist()


@pytest.fixture(params=["reference", "cpu"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[0.0, 0.3])
def executor(request: pytest.FixtureRequest, tmp_path: Path, backend: str) -> Iterator[Executor]:
    """A trunk of one block with a head that is a disturbed copy of it."""
    head = TinyHead(noise=request.param)
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", head, layers=1)
    with executor_of(model, backend) as executor:
        yield executor


def test_chains_from_every_position_are_compared_with_the_text(executor: Executor) -> None:
    text = greedy_text(executor)
    found = forced_acceptance(executor, PROMPT, text, DEPTH)

    judged, accepted = [0] * DEPTH, [0] * DEPTH
    for done in range(LENGTH):
        depth = min(DEPTH, LENGTH - done)
        chain = chain_after(executor, [*PROMPT, *text[:done]], depth)
        for index in range(depth):
            judged[index] += 1
            if chain[index] != text[done + index]:
                break
            accepted[index] += 1
    assert found.steps == LENGTH
    assert (found.judged_at, found.accepted_at) == (judged, accepted)


def test_a_copy_of_the_trunk_is_always_right(tmp_path: Path, backend: str) -> None:
    model, _ = headed_model(tmp_path / "tiny.gguf", "llama", TinyHead(noise=0.0), layers=1)
    with executor_of(model, backend) as executor:
        found = forced_acceptance(executor, PROMPT, greedy_text(executor), DEPTH)
        other = forced_acceptance(executor, PROMPT, [5] * 8, 2)
    assert found.acceptance_at == [1.0] * DEPTH
    assert other.acceptance_at[0] < 1.0


def test_a_prompt_longer_than_a_step_and_one_of_a_single_token(
    executor: Executor, tmp_path: Path
) -> None:
    long = [1, *([17, 45, 9] * 80)]
    assert len(long) > executor.max_rows
    assert forced_acceptance(executor, long, [3, 4, 5], 1).steps == 3
    assert forced_acceptance(executor, [1], [3, 4], 1).steps == 2


def test_what_cannot_be_measured_is_a_defect(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 tokens of a prompt"):
        forced_acceptance(executor, [], [1, 2])
    with pytest.raises(ValueError, match="in a context of"):
        forced_acceptance(executor, [1] * (BLOCKS * BLOCK_TOKENS), [1])
    model, _ = headed_model(tmp_path / "other.gguf", "llama", TinyHead(), layers=1)
    with (
        executor_of(model, "cpu", with_head=False) as headless,
        pytest.raises(ValueError, match="has no head"),
    ):
        forced_acceptance(headless, [1], [2])
