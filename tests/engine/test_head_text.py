"""A head changes no text, and its part of the cache is right whatever the engine does."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nextn.backends import BLOCK_TOKENS, Chains, Drafted, Executor, Rows
from nextn.backends.cpu import CpuExecutor
from nextn.engine import Engine, GenerationRequest
from nextn.engine import Sequence as EngineSequence
from nextn.engine.speculation import Speculation
from nextn.files import open_checkpoint
from nextn.models.nextn_head import HeadedModel, load_head_plan
from nextn.plan import fuse
from nextn.sampling import SamplingParams
from nextn.speculate import DepthController, Draft, HeadDrafter, SuffixDrafter, Want
from nextn.text.tokenizer import Tokenizer, load_tokenizer
from tests.backends.heads import chains_of, fill, rows_of
from tests.support.tiny_gguf import TinyHead, write_tiny_model

CONTEXT = 160
VOCAB = 320
SAMPLINGS = (
    SamplingParams(temperature=0.0, logprobs=0, seed=0),
    SamplingParams(temperature=0.3, top_p=0.9, logprobs=0, seed=1),
    SamplingParams(temperature=0.8, logprobs=0, seed=2),
    SamplingParams(temperature=1.2, top_k=0, top_p=0.95, min_p=0.0, logprobs=0, seed=3),
    SamplingParams(temperature=0.7, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.2, seed=4),
)
COMMON = [(5 * i * i + i) % VOCAB for i in range(70)]
PROMPTS = (COMMON, [*COMMON[:40], 9, 8, 7], [17, 3, 200, 41, 5])

Written = list[list[tuple[int, float | None]]]

SHAPE: dict[str, Any] = {"heads": 2, "head_dim": 32, "tied": False}
HEADS: dict[str, dict[str, Any]] = {
    # Foresees most of what the trunk writes, but not all.
    "copy": {"head": TinyHead(noise=0.4), "layers": 1},
    "copy of half the vocabulary": {
        "head": TinyHead(noise=0.2, draft_vocab=range(0, VOCAB, 2)),
        "layers": 1,
    },
    "random": {"head": TinyHead(hidden_kind="pre")},
}


@pytest.fixture(scope="module", params=HEADS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> HeadedModel:
    path: Path = tmp_path_factory.mktemp("head") / "tiny.gguf"
    write_tiny_model(path, "llama", **SHAPE, **HEADS[request.param])
    checkpoint = open_checkpoint(path)
    return load_head_plan(checkpoint, checkpoint)


@pytest.fixture(scope="module")
def tokenizer(model: HeadedModel) -> Tokenizer:
    return load_tokenizer(model.file.tokenizer)


def executor_of(model: HeadedModel, blocks: int = 64, **settings: Any) -> Executor:
    return CpuExecutor(
        model.checkpoint,
        fuse(model.trunk),
        head=fuse(model.head),
        **{
            "context_length": CONTEXT,
            "block_count": blocks,
            "max_rows": 64,
            "threads": 2,
            **settings,
        },
    )


@pytest.fixture(scope="module")
def executor(model: HeadedModel) -> Iterator[Executor]:
    made = executor_of(model)
    yield made
    made.close()


def submit(
    engine: Engine, draft: str | int, prompts: Sequence[list[int]] = PROMPTS, tokens: int = 40
) -> list[EngineSequence]:
    return [
        engine.submit(
            GenerationRequest(prompt=prompt, sampling=sampling, max_tokens=tokens, draft=draft)
        )
        for prompt in prompts
        for sampling in SAMPLINGS
    ]


def write(engine: Engine, sequences: list[EngineSequence]) -> Written:
    written: dict[int, list[tuple[int, float | None]]] = {each.id: [] for each in sequences}
    while engine.running or engine.waiting:
        for event in engine.step():
            assert event.token is not None
            if event.sequence.id in written:
                written[event.sequence.id].append((event.token.id, event.token.logprob))
    return [written[each.id] for each in sequences]


def with_drafters(engine: Engine, drafters: list[Any]) -> Engine:
    """The same engine with these drafters, which know its cache."""
    engine._speculation = Speculation(drafters, DepthController())
    return engine


@pytest.fixture(scope="module")
def plain(model: HeadedModel, tokenizer: Tokenizer) -> Written:
    """One sequence at a time, one token per step, by an executor without a head."""
    executor = CpuExecutor(
        model.file,
        fuse(model.trunk),
        context_length=CONTEXT,
        block_count=64,
        max_rows=64,
        threads=1,
    )
    engine = Engine(executor, tokenizer, max_sequences=1)
    texts = write(engine, submit(engine, "off"))
    assert sum(map(len, texts)) == 600
    return texts


@pytest.mark.parametrize(
    ("draft", "together", "suffix"),
    [
        *((draft, 15, True) for draft in ("off", 1, 2, 3, 4, 5, 6, 7, 8, "auto")),
        *((draft, 1, True) for draft in (5, "auto")),
        *((draft, 15, False) for draft in (4, "auto")),
    ],
)
def test_drafts_of_a_head_change_no_bit(
    executor: Executor,
    tokenizer: Tokenizer,
    plain: Written,
    draft: str | int,
    together: int,
    suffix: bool,
) -> None:
    engine = Engine(executor, tokenizer, max_sequences=together)
    if not suffix:
        with_drafters(engine, [HeadDrafter(executor, engine.cache.uses)])
    assert write(engine, submit(engine, draft)) == plain
    # The same once more, with the prompts in the cache.
    assert write(engine, submit(engine, draft)) == plain


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("cache_type", ["f16", "q8_0"])
def test_a_head_changes_no_bit_in_chunks_and_with_little_room(
    model: HeadedModel, tokenizer: Tokenizer, chunk: int, cache_type: str
) -> None:
    results = []
    for draft, blocks, size in (("off", 64, 64), (5, 64, chunk), (3, 9, chunk), ("auto", 9, chunk)):
        executor = executor_of(model, blocks, cache_type=cache_type, threads=1 + (chunk == 7))
        engine = Engine(executor, tokenizer, prompt_chunk=size, shared_prompt_chunk=size)
        results.append(write(engine, submit(engine, draft)))
        executor.close()
    assert all(result == results[0] for result in results)


class CheckedDrafter(HeadDrafter):
    """Compares every draft with that of a head that reads the whole text anew."""

    def __init__(self, executor: Executor, uses: Any, fresh: Executor) -> None:
        super().__init__(executor, uses)
        self.checked = 0
        self._fresh = fresh

    def propose(self, wants: Sequence[Want]) -> list[Draft]:
        drafts = super().propose(wants)
        for want, draft in zip(wants, drafts, strict=True):
            params = want.sampler.params
            fill(self._fresh, want.tokens)
            rows = rows_of([(0, len(want.tokens) - 1, want.tokens[-1:])], wanted=[0])
            chains = chains_of(
                [want.limit],
                temperature=params.temperature,
                top_k=params.top_k,
                top_p=params.top_p,
                min_p=params.min_p,
                seeds=want.sampler.seed,
                least=want.least,
            )
            expected = self._fresh.draft(rows, chains)
            probabilities = self._followed[want.sequence].probabilities
            count = min(len(draft.tokens), int(expected.counts[0]))
            assert count
            assert draft.tokens[:count] == expected.tokens[0, :count].tolist()
            assert probabilities[:count] == expected.probabilities[0, :count].tolist()
            self.checked += count
        return drafts


@pytest.mark.parametrize("seed", range(6))
def test_what_the_cache_holds_of_the_head_is_always_right(
    model: HeadedModel, tokenizer: Tokenizer, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With shared prefixes, blocks used again, preemption, and texts that do not use the head."""
    monkeypatch.setattr("nextn.speculate.useless._DRAFTS", 10**9)  # a random head would be given up
    chance = random.Random(seed)
    # 12 blocks: two or three texts at a time.
    executor = executor_of(model, blocks=12)
    fresh = executor_of(model, blocks=36, context_length=12 * BLOCK_TOKENS)
    engine = Engine(executor, tokenizer, drafters=[], max_sequences=4)
    drafter = CheckedDrafter(executor, engine.cache.uses, fresh)
    engine = with_drafters(engine, [SuffixDrafter(), drafter])
    for _ in range(30):
        prompt = [*COMMON[: chance.randint(1, 70)], chance.randrange(VOCAB)]
        draft: Any = chance.choice(["off", "auto", 1, 3, 6, 6])
        sampling = SamplingParams(temperature=chance.choice([0.0, 0.8]), seed=seed)
        tokens = chance.randint(1, 50)
        request = GenerationRequest(
            prompt=prompt, sampling=sampling, max_tokens=tokens, draft=draft
        )
        sequence = engine.submit(request)
        for _ in range(chance.randint(0, 12)):
            engine.step()
        if chance.random() < 0.2:
            engine.cancel(sequence)
    write(engine, [])
    assert drafter.checked > 100
    executor.close()
    fresh.close()


def test_a_head_that_copies_its_trunk_is_right_nearly_always(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama", layers=1, head=TinyHead(noise=0.0), **SHAPE)
    checkpoint = open_checkpoint(path)
    executor = executor_of(load_head_plan(checkpoint, checkpoint))
    engine = Engine(executor, tokenizer)
    write(engine, submit(engine, 4))
    statistics = engine.statistics.by_drafter["head"]
    assert statistics.drafted > 200
    assert statistics.accepted > 0.9 * statistics.drafted


def test_a_head_reads_a_prompt_that_must_not_be_found_each_time_too(
    executor: Executor, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    draft = executor.draft

    def counted(rows: Rows, chains: Chains) -> Drafted:
        read.append(len(rows.tokens))
        return draft(rows, chains)

    monkeypatch.setattr(executor, "draft", counted)
    engine = Engine(executor, tokenizer)
    for _ in range(3):
        request = GenerationRequest(prompt=COMMON, max_tokens=10, draft=2, cache_prompt=False)
        write(engine, [engine.submit(request)])
        assert sum(read) >= len(COMMON)
        read.clear()
