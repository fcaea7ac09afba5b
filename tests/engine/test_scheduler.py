from __future__ import annotations

from typing import Any

from nextn.cache import BlockCache
from nextn.engine import GenerationRequest, Sequence
from nextn.engine.scheduler import Scheduler
from nextn.engine.step import Run
from tests.support.fake_executor import VOCAB, FakeTokenizer

BLOCK = 32


def make(blocks: int = 100, **limits: int) -> Scheduler:
    defaults = {"max_rows": 64, "max_sequences": 8, "prompt_chunk": 64, "shared_prompt_chunk": 16}
    return Scheduler(BlockCache(blocks, BLOCK), **(defaults | limits))


def sequence(number: int, length: int, *, token: int | None = None, **options: Any) -> Sequence:
    tokens = [number if token is None else token] * length
    tokenizer: Any = FakeTokenizer()
    return Sequence(
        number,
        GenerationRequest(prompt=tokens, **options),
        tokenizer,
        vocab_size=VOCAB,
        context_length=1000,
    )


def rows(runs: list[Run]) -> dict[int, int]:
    return {run.sequence.id: run.rows for run in runs}


def compute(runs: list[Run]) -> None:
    """What a step does to the sequences: complete ones get a token."""
    for run in runs:
        run.blocks.commit(run.known)
        if run.completes:
            run.sequence.tokens.append(1)


def test_a_prompt_is_read_in_chunks_and_then_decoded_row_by_row() -> None:
    scheduler = make()
    scheduler.add(sequence(1, 150))
    seen = []
    for _ in range(5):
        runs = scheduler.plan()
        compute(runs)
        seen.append((runs[0].rows, runs[0].completes))
    assert seen == [(64, False), (64, False), (22, True), (1, True), (1, True)]


def test_decoding_goes_on_beside_prompts_which_get_less_then() -> None:
    scheduler = make()
    scheduler.add(sequence(1, 10))
    compute(scheduler.plan())
    scheduler.add(sequence(2, 100))
    runs = scheduler.plan()
    assert rows(runs) == {1: 1, 2: 16}
    assert runs[0].sequence.id == 1


def test_a_short_prompt_does_not_wait_for_long_ones() -> None:
    scheduler = make()
    for number, length in ((1, 500), (2, 500), (3, 10)):
        scheduler.add(sequence(number, length))
    assert rows(scheduler.plan()) == {3: 10, 1: 27, 2: 27}


def test_a_step_never_has_more_rows_than_the_executor_takes() -> None:
    scheduler = make(max_rows=3, max_sequences=3, prompt_chunk=9)
    for number in range(3):
        scheduler.add(sequence(number, 5))
    for _ in range(20):
        runs = scheduler.plan()
        assert 0 < sum(run.rows for run in runs) <= 3
        compute(runs)
    assert rows(scheduler.plan()) == {0: 1, 1: 1, 2: 1}


def test_no_more_sequences_run_than_allowed_and_the_next_one_is_the_first_that_came() -> None:
    scheduler = make(max_sequences=2)
    sequences = [sequence(number, 5) for number in range(4)]
    for each in sequences:
        scheduler.add(each)
    scheduler.plan()
    assert scheduler.running == sequences[:2]
    scheduler.remove(sequences[0])
    scheduler.plan()
    assert scheduler.running == sequences[1:3]
    assert list(scheduler.waiting) == sequences[3:]


def test_a_sequence_waits_until_the_cache_has_room_for_its_prompt_and_the_others() -> None:
    scheduler = make(blocks=5)
    old, new = sequence(1, 2 * BLOCK), sequence(2, 3 * BLOCK)
    scheduler.add(old)
    compute(scheduler.plan())
    scheduler.add(new)
    compute(scheduler.plan())
    # Three blocks were free, but the old sequence needs one of them for its next token.
    assert scheduler.running == [old]
    scheduler.remove(old)
    scheduler.plan()
    assert scheduler.running == [new]


def test_the_youngest_gives_way_and_is_the_first_to_come_back() -> None:
    scheduler = make(blocks=5, max_rows=100, prompt_chunk=100)
    one, two, three = (sequence(number, BLOCK - 3) for number in (1, 2, 3))
    for each in (one, two, three):
        scheduler.add(each)
    for _ in range(2):
        compute(scheduler.plan())
    assert scheduler.running == [one, two, three]
    scheduler.add(sequence(4, 5))
    for _ in range(3):
        compute(scheduler.plan())
    assert scheduler.running == [one, two]
    assert [waiting.id for waiting in scheduler.waiting] == [3, 4]
    assert three.blocks is None
    scheduler.remove(two)
    scheduler.plan()
    assert scheduler.running[:2] == [one, three]


def test_a_sequence_that_lost_its_blocks_finds_the_full_ones_again() -> None:
    scheduler = make(blocks=4)
    one = sequence(1, BLOCK + 5)
    scheduler.add(one)
    compute(scheduler.plan())
    scheduler.remove(one)
    scheduler.add(one)
    assert rows(scheduler.plan()) == {1: 6}


def test_after_a_broken_step_everything_is_computed_again() -> None:
    scheduler = make(blocks=4)
    one = sequence(1, BLOCK + 5)
    scheduler.add(one)
    compute(scheduler.plan())
    scheduler.requeue_all()
    assert rows(scheduler.plan()) == {1: BLOCK + 6}


def test_the_most_urgent_run_first_and_instead_of_others() -> None:
    scheduler = make(max_sequences=2)
    calm = [sequence(number, 5) for number in (1, 2)]
    for each in calm:
        scheduler.add(each)
    compute(scheduler.plan())
    urgent = sequence(3, 5, priority=-1)
    lazy = sequence(4, 5, priority=1)
    scheduler.add(lazy)
    scheduler.add(urgent)
    compute(scheduler.plan())
    assert scheduler.running == [urgent, calm[0]]
    assert scheduler.waiting == [calm[1], lazy]
    assert scheduler.preemptions == 1
    scheduler.remove(urgent)
    compute(scheduler.plan())
    assert scheduler.running == calm


def test_an_urgent_sequence_gets_the_memory_of_others() -> None:
    scheduler = make(blocks=5, max_rows=200, prompt_chunk=200)
    calm = sequence(1, 3 * BLOCK)
    scheduler.add(calm)
    compute(scheduler.plan())
    urgent = sequence(2, 3 * BLOCK, priority=-5)
    scheduler.add(urgent)
    compute(scheduler.plan())
    assert scheduler.running == [urgent]
    assert scheduler.waiting == [calm]


def test_clients_take_turns() -> None:
    scheduler = make(max_sequences=3)
    busy = [sequence(number, 5, client="busy") for number in range(5)]
    for each in busy:
        scheduler.add(each)
    scheduler.plan()
    calm = [sequence(number, 5, client="calm") for number in (10, 11)]
    for each in calm:
        scheduler.add(each)
    scheduler.remove(busy[0])
    scheduler.plan()
    # Who has none that runs comes before those who came earlier.
    assert scheduler.running == [busy[1], busy[2], calm[0]]
    scheduler.remove(calm[0])
    scheduler.plan()
    assert scheduler.running == [busy[1], busy[2], calm[1]]
    scheduler.remove(busy[1])
    scheduler.plan()
    assert scheduler.running == [busy[2], busy[3], calm[1]]


def test_a_shared_beginning_is_read_once() -> None:
    scheduler = make(max_rows=64, prompt_chunk=64)
    length = 5 * BLOCK
    for number in range(4):
        each = sequence(number, length, token=9)
        each.tokens += [number] * 10
        scheduler.add(each)
    other = sequence(7, 40)
    scheduler.add(other)
    computed = 0
    starts: dict[int, int] = {}
    for step in range(10):
        runs = scheduler.plan()
        for run in runs:
            starts.setdefault(run.sequence.id, step)
            if run.sequence.id < 4 and len(run.sequence.tokens) == length + 10:
                computed += run.rows
        compute(runs)
    assert computed == length + 4 * 10
    assert starts[0] == starts[7] == 0
    assert starts[1] == starts[2] == starts[3]


def test_nobody_waits_for_a_beginning_that_stays_out_of_the_cache() -> None:
    for private in ({0}, {1}, {0, 1}):
        scheduler = make()
        for number in range(2):
            scheduler.add(sequence(number, 70, token=5, cache_prompt=number not in private))
        assert rows(scheduler.plan()) == {0: 32, 1: 32}


def test_who_reads_a_shared_beginning_may_leave() -> None:
    scheduler = make(max_rows=64, prompt_chunk=64)
    first, second = (sequence(number, 5 * BLOCK, token=9) for number in (1, 2))
    scheduler.add(first)
    scheduler.add(second)
    compute(scheduler.plan())
    assert scheduler.running == [first]
    scheduler.remove(first)
    assert rows(scheduler.plan()) == {2: 64}
    assert second.blocks is not None
    assert second.blocks.length == 64


def test_nothing_to_do_is_an_empty_plan() -> None:
    scheduler = make()
    assert scheduler.plan() == []
    scheduler.remove(sequence(1, 1))
