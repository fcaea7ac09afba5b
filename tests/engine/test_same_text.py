"""Promise 1 on a real model: the small sister of benchmarks/same_text.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nextn.backends import BLOCK_TOKENS, CACHE_TYPES, Executor, create_executor
from nextn.engine import Engine, GenerationRequest, Sequence
from nextn.files import open_checkpoint
from nextn.sampling import SamplingParams
from nextn.text.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.models

PROMPTS = (
    "def area(width, height):\n    return width * height\n\n" * 3 + "def area(width, height):\n",
    "Once upon a time there was a fox who",
    "one two three four one two three four one two",
)
SETTINGS = (
    SamplingParams(temperature=0.0, logprobs=0, seed=0),
    SamplingParams(temperature=0.8, logprobs=0, seed=1),
)
TOKENS = 24
TOGETHER = 6  # all prompts with all settings
CONTEXT = 128
BLOCKS = 2 * TOGETHER * CONTEXT // BLOCK_TOKENS

Written = list[list[tuple[int, float | None]]]


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    with open_checkpoint(smollm2_path) as checkpoint:
        return load_tokenizer(checkpoint.tokenizer)


@pytest.fixture(scope="module", params=CACHE_TYPES)
def executors(smollm2_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[int, Executor]]:
    """By number of threads."""
    with open_checkpoint(smollm2_path) as checkpoint:
        made = {
            threads: create_executor(
                checkpoint,
                threads=threads,
                context_length=CONTEXT,
                block_count=BLOCKS,
                cache_type=request.param,
            )
            for threads in (1, 2)
        }
        yield made
        for executor in made.values():
            executor.close()


def submit(engine: Engine, tokenizer: Tokenizer, draft: str | int) -> list[Sequence]:
    return [
        engine.submit(
            GenerationRequest(
                prompt=tokenizer.encode(prompt),
                sampling=sampling,
                max_tokens=TOKENS,
                draft=draft,
            )
        )
        for prompt in PROMPTS
        for sampling in SETTINGS
    ]


def write(engine: Engine, sequences: list[Sequence]) -> Written:
    written: dict[int, list[tuple[int, float | None]]] = {each.id: [] for each in sequences}
    while engine.running or engine.waiting:
        for event in engine.step():
            assert event.token is not None
            written[event.sequence.id].append((event.token.id, event.token.logprob))
    return [written[each.id] for each in sequences]


@pytest.fixture(scope="module")
def plain(executors: dict[int, Executor], tokenizer: Tokenizer) -> Written:
    """One sequence at a time, one token per step."""
    engine = Engine(executors[2], tokenizer, max_sequences=1)
    return write(engine, submit(engine, tokenizer, "off"))


@pytest.mark.parametrize("draft", ["off", 1, 2, 3, 4, 5, 6, 7, 8, "auto"])
@pytest.mark.parametrize("together", [1, TOGETHER], ids=["alone", "with others"])
def test_drafts_and_neighbours_change_no_bit(
    executors: dict[int, Executor],
    tokenizer: Tokenizer,
    plain: Written,
    draft: str | int,
    together: int,
) -> None:
    engine = Engine(executors[2], tokenizer, max_sequences=together)
    assert write(engine, submit(engine, tokenizer, draft)) == plain
    if isinstance(draft, int):
        assert engine.statistics.accepted > 0


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_threads_and_prompt_chunks_change_no_bit(
    executors: dict[int, Executor], tokenizer: Tokenizer, plain: Written, chunk: int
) -> None:
    engine = Engine(executors[1], tokenizer, prompt_chunk=chunk, shared_prompt_chunk=chunk)
    assert write(engine, submit(engine, tokenizer, 4)) == plain


def test_a_hit_in_the_prefix_cache_changes_no_bit(
    executors: dict[int, Executor], tokenizer: Tokenizer, plain: Written
) -> None:
    engine = Engine(executors[2], tokenizer)
    assert write(engine, submit(engine, tokenizer, 3)) == plain
    again = submit(engine, tokenizer, 3)
    assert write(engine, again) == plain
    assert again[0].statistics.cached_tokens >= BLOCK_TOKENS
