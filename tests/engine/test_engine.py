"""The text of a request is the oracle's, whatever else happens in the engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nextn.engine import Engine, GenerationRequest, Token
from nextn.engine import Sequence as EngineSequence
from nextn.errors import RequestError
from nextn.sampling import ConstraintError, SamplingParams
from nextn.sampling.sampler import NoTokenError
from nextn.speculate import GrammarDrafter, SuffixDrafter, Switch
from tests.support.fake_constraint import FakeConstraintSource
from tests.support.fake_drafters import Parrot, RandomDepth
from tests.support.fake_executor import END, VOCAB, FakeExecutor, FakeTokenizer, Oracle


@dataclass
class Setting:
    """An engine and when its requests arrive."""

    requests: list[GenerationRequest]
    arrivals: list[int]
    executor: dict[str, int]
    engine: dict[str, int]
    seed: int
    free: bool
    cancelled: dict[int, int] = field(default_factory=dict)  # request -> step


PROMPTS = st.one_of(
    st.lists(st.integers(0, 59), min_size=1, max_size=90),
    # Texts that begin alike, so that blocks are shared.
    st.integers(0, 90).map(lambda count: [(3 * i) % 11 for i in range(count + 1)]),
)
REQUESTS = st.builds(
    GenerationRequest,
    prompt=PROMPTS,
    sampling=st.builds(
        SamplingParams,
        temperature=st.sampled_from([0.0, 0.0, 0.5, 1.2]),
        top_k=st.sampled_from([0, 5]),
        repeat_penalty=st.sampled_from([1.0, 1.0, 1.3]),
        repeat_last_n=st.sampled_from([3, 64, -1]),
        logprobs=st.sampled_from([None, 0, 2]),
        seed=st.integers(0, 5),
    ),
    max_tokens=st.one_of(st.none(), st.integers(1, 60)),
    stop=st.sampled_from([(), (), ("ab",), ("é",), ("aaa", "cd", "f")]),
    end_tokens=st.sampled_from([frozenset(), frozenset({END}), frozenset({END, 11})]),
    draft=st.sampled_from(["auto", "auto", "off", 1, 3, 16]),
    cache_prompt=st.sampled_from([True, True, False]),
    constraint=st.sampled_from(
        [None, FakeConstraintSource(VOCAB, END), FakeConstraintSource(VOCAB, END, after=b"a")]
    ),
    priority=st.sampled_from([0, 0, 0, 1, -1]),
    client=st.sampled_from(["", "a"]),
)


@st.composite
def settings_of_engines(draw: st.DrawFn) -> Setting:
    requests = draw(st.lists(REQUESTS, min_size=1, max_size=5))
    count = len(requests)
    return Setting(
        requests,
        draw(st.lists(st.integers(0, 12), min_size=count, max_size=count)),
        {
            "context_length": 128,
            "block_count": draw(st.integers(4, 12)),
            "max_rows": draw(st.sampled_from([3, 8, 64])),
        },
        {
            "prompt_chunk": draw(st.sampled_from([1, 5, 33, 64])),
            "shared_prompt_chunk": draw(st.sampled_from([1, 7, 64])),
            "max_sequences": draw(st.integers(1, 5)),
        },
        draw(st.integers(0, 1000)),
        draw(st.booleans()),
        draw(st.dictionaries(st.integers(0, count - 1), st.integers(0, 20), max_size=1)),
    )


def run(engine: Engine, setting: Setting) -> list[tuple[EngineSequence, list[Token]]]:
    """Submit the requests when they arrive, and step until all is done."""
    results: dict[int, tuple[EngineSequence, list[Token]]] = {}
    of_sequence: dict[EngineSequence, list[Token]] = {}
    for step in range(100_000):
        for index, request in enumerate(setting.requests):
            if setting.arrivals[index] == step:
                sequence = engine.submit(request)
                results[index] = sequence, of_sequence.setdefault(sequence, [])
        for index, at in setting.cancelled.items():
            if at == step and index in results:
                engine.cancel(results[index][0])
        for event in engine.step():
            assert event.token is not None
            of_sequence[event.sequence].append(event.token)
        if len(results) == len(setting.requests) and not engine.running + engine.waiting:
            break
    return [results[index] for index in range(len(setting.requests))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(settings_of_engines())
def test_text_does_not_depend_on_drafts_chunks_neighbours_or_preemption(setting: Setting) -> None:
    executor = FakeExecutor(**setting.executor)
    engine = Engine(
        executor,
        FakeTokenizer(),  # type: ignore[arg-type]
        drafters=[GrammarDrafter(), SuffixDrafter(), Parrot(setting.free)],
        depth=RandomDepth(setting.seed),
        **setting.engine,
    )
    for index, (sequence, tokens) in enumerate(run(engine, setting)):
        oracle = Oracle(setting.requests[index], executor.context_length)
        written = [token.id for token in tokens]
        if index in setting.cancelled and sequence.finish_reason is None:
            assert written == oracle.tokens[: len(written)]
            continue
        assert written == oracle.tokens
        assert "".join(token.text for token in tokens) == oracle.text
        assert [t.finish_reason for t in tokens] == [None] * (len(tokens) - 1) + [
            oracle.finish_reason
        ]
        prompt = len(setting.requests[index].prompt)
        assert [token.position for token in tokens] == list(range(prompt, prompt + len(tokens)))
        check_statistics(sequence, tokens)
    assert engine.cache.used == 0
    assert engine.cache.free + engine.cache.cached == executor.block_count


def check_statistics(sequence: EngineSequence, tokens: list[Token]) -> None:
    statistics = sequence.statistics
    assert statistics.tokens == len(tokens)
    assert statistics.prompt_tokens == len(sequence.request.prompt)
    assert statistics.accepted == sum(token.drafter is not None for token in tokens)
    assert statistics.accepted <= statistics.drafted
    # Each step writes one token of the trunk's own, but for a last step that ends before it.
    own = statistics.tokens - statistics.accepted
    assert statistics.steps - own == (tokens[-1].drafter is not None)
    assert 0 <= statistics.prompt_seconds <= statistics.time_to_first_token <= statistics.seconds
    if sequence.request.draft == "off":
        assert statistics.drafted == 0
        assert statistics.tokens_per_step == 1.0


def make_engine(**options: Any) -> tuple[Engine, FakeExecutor]:
    limits = ("context_length", "block_count", "max_rows")
    executor = FakeExecutor(**{k: options.pop(k) for k in limits if k in options})
    return Engine(executor, FakeTokenizer(), **options), executor  # type: ignore[arg-type]


def greedy(prompt: list[int], **options: Any) -> GenerationRequest:
    options.setdefault("sampling", SamplingParams(temperature=0.0, seed=0))
    return GenerationRequest(prompt=prompt, **options)


def finish(engine: Engine) -> dict[int, list[Token]]:
    """Step until nothing is left; tokens by sequence id."""
    written: dict[int, list[Token]] = {}
    while engine.running + engine.waiting:
        for event in engine.step():
            assert event.token is not None
            written.setdefault(event.sequence.id, []).append(event.token)
    return written


def test_the_measuring_depth_controller_keeps_the_text() -> None:
    request = greedy([5, 6, 7])
    engine, executor = make_engine()
    sequence = engine.submit(request)
    tokens = finish(engine)[sequence.id]
    assert [token.id for token in tokens] == Oracle(request, executor.context_length).tokens


def test_drafts_save_steps_and_tokens_tell_who_foresaw_them() -> None:
    request = greedy([5, 6, 7] * 10, max_tokens=80, draft=8)
    engine, executor = make_engine()
    sequence = engine.submit(request)
    tokens = finish(engine)[sequence.id]
    statistics = sequence.statistics
    assert statistics.accepted > 10
    assert statistics.tokens_per_step > 1.2
    assert {token.drafter for token in tokens} == {None, "suffix"}
    assert len(executor.steps) == statistics.steps
    assert engine.statistics.accepted == statistics.accepted
    assert engine.statistics.drafted == statistics.drafted


@pytest.mark.parametrize("drafters", [[GrammarDrafter()], [SuffixDrafter()], []])
@pytest.mark.parametrize("draft", ["auto", 8])
def test_forced_tokens_change_the_number_of_steps_and_nothing_else(
    drafters: list[Any], draft: str | int
) -> None:
    request = greedy(
        [5, 6, 7], max_tokens=90, draft=draft, constraint=FakeConstraintSource(VOCAB, END)
    )
    engine, executor = make_engine(drafters=drafters)
    sequence = engine.submit(request)
    tokens = finish(engine)[sequence.id]
    assert [token.id for token in tokens] == Oracle(request, executor.context_length).tokens
    forced = [token for token in tokens if token.drafter == "grammar"]
    assert bool(forced) == any(drafter.name == "grammar" for drafter in drafters)
    if forced:
        assert sequence.statistics.accepted == sequence.statistics.drafted == len(forced)


def test_drafts_that_the_constraint_forbids_are_not_verified() -> None:
    source = FakeConstraintSource(VOCAB, END)
    request = greedy([5, 6, 7], max_tokens=90, draft=8, constraint=source)
    engine, executor = make_engine(drafters=[Parrot()])
    sequence = engine.submit(request)
    finish(engine)
    text = len(request.prompt)
    for rows in executor.steps[1:]:
        tokens, first = rows.tokens.tolist(), int(rows.positions[0])
        history = sequence.tokens[text : first + 1]
        assert source.start_after(history).allowed(tokens[1:]) == len(tokens) - 1
    assert any(len(rows.tokens) > 1 for rows in executor.steps[1:])


def test_a_constraint_that_fails_ends_its_own_text_only() -> None:
    engine, executor = make_engine()
    failing = engine.submit(
        greedy([5, 6, 7], constraint=FakeConstraintSource(VOCAB, END, fails_at=6))
    )
    other = greedy([5, 6, 7, 8], max_tokens=30)
    running = engine.submit(other)
    written: dict[int, list[int]] = {failing.id: [], running.id: []}
    errors = []
    while engine.running + engine.waiting:
        for event in engine.step():
            if event.token is None:
                errors.append((event.sequence.id, type(event.error)))
            else:
                written[event.sequence.id].append(event.token.id)
    assert errors == [(failing.id, ConstraintError)]
    assert len(written[failing.id]) == 6
    assert written[running.id] == Oracle(other, executor.context_length).tokens


def test_a_constraint_of_another_model_is_refused() -> None:
    engine, _ = make_engine()
    with pytest.raises(RequestError, match="made for a model of 65 tokens"):
        engine.submit(greedy([1], constraint=FakeConstraintSource(VOCAB + 1, END)))


def test_two_costly_drafters_are_a_defect() -> None:
    with pytest.raises(ValueError, match="at most one"):
        make_engine(drafters=[Parrot(free=False), Parrot(free=False)])


def test_only_the_last_prompt_row_and_drafts_want_logits() -> None:
    engine, executor = make_engine()
    engine.submit(greedy(list(range(40)), max_tokens=20, draft=4))
    finish(engine)
    assert executor.steps[0].wants_logits.tolist() == [False] * 39 + [True]
    assert all(rows.wants_logits.all() for rows in executor.steps[1:])


def test_never_drafts_beyond_max_tokens_or_the_context() -> None:
    prompt = [4] * 30
    for request in (greedy(prompt, max_tokens=20, draft=16), greedy(prompt, draft=16)):
        engine, executor = make_engine(context_length=64, drafters=[Parrot()])
        engine.submit(request)
        finish(engine)
        end = len(prompt) + 20 if request.max_tokens else 64
        # The last token is never computed, so the last row is that of the token before it.
        assert max(rows.positions.max() for rows in executor.steps) <= end - 2


def test_a_repeated_prompt_is_found_in_the_cache() -> None:
    engine, executor = make_engine()
    first = engine.submit(greedy(list(range(50)) + [1] * 20, max_tokens=2))
    finish(engine)
    second = engine.submit(greedy(list(range(50)) + [2] * 20, max_tokens=2))
    finish(engine)
    third = engine.submit(greedy(list(range(50)) + [2] * 14, max_tokens=2))
    finish(engine)
    assert first.statistics.cached_tokens == 0
    assert second.statistics.cached_tokens == 32
    assert third.statistics.cached_tokens == 32  # the last token must be computed: 64 - 1
    assert sum(len(rows.tokens) for rows in executor.steps) == (70 + 1) + (38 + 1) + (32 + 1)


def test_a_prompt_that_must_not_be_found_is_computed() -> None:
    engine, _ = make_engine()
    request = greedy(list(range(50)) + [1] * 20, max_tokens=40)
    texts = []
    for cache_prompt, cached in [(False, 0), (True, 0), (False, 0), (True, 64), (False, 0)]:
        sequence = engine.submit(replace(request, cache_prompt=cache_prompt))
        texts.append([token.id for token in finish(engine)[sequence.id]])
        assert sequence.statistics.cached_tokens == cached
    assert texts == [Oracle(request, 512).tokens] * 5


def test_a_conversation_goes_on_from_what_was_written() -> None:
    engine, _ = make_engine()
    request = greedy(list(range(20)), max_tokens=60)
    first = engine.submit(request)
    answer = [token.id for token in finish(engine)[first.id]]
    turn = engine.submit(greedy([*request.prompt, *answer, 1, 2, 3], max_tokens=1))
    finish(engine)
    assert turn.statistics.cached_tokens == 64


def test_preemption_gives_room_to_the_oldest_and_loses_nothing() -> None:
    engine, executor = make_engine(block_count=6, context_length=128)
    requests = [greedy([n, n + 1, n + 2] * 10, draft="off") for n in range(4)]
    sequences = [engine.submit(request) for request in requests]
    most = 0
    ended: list[int] = []
    texts: dict[int, list[int]] = {}
    while engine.running + engine.waiting:
        for event in engine.step():
            assert event.token is not None
            texts.setdefault(event.sequence.id, []).append(event.token.id)
            if event.token.finish_reason:
                ended.append(event.sequence.id)
        most = max(most, engine.running)
    assert most == 3  # at full length they need 12 blocks, so some must have been preempted
    assert ended == [sequence.id for sequence in sequences]
    for sequence, request in zip(sequences, requests, strict=True):
        assert texts[sequence.id] == Oracle(request, 128).tokens
    assert max(rows.positions.max() for rows in executor.steps) == 126


def test_an_interrupt_during_the_computation_loses_nothing() -> None:
    request = greedy([1, 2, 3] * 20, max_tokens=30, draft=3)
    engine, executor = make_engine(prompt_chunk=16)
    sequence = engine.submit(request)
    tokens: list[int] = []
    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise KeyboardInterrupt

    executor.on_step = interrupt
    while engine.running + engine.waiting:
        try:
            events = engine.step()
        except KeyboardInterrupt:
            assert sequence.statistics.tokens == len(tokens)
            continue
        tokens += [event.token.id for event in events if event.token is not None]
    assert calls > 9
    assert tokens == Oracle(request, executor.context_length).tokens
    assert engine.cache.used == 0


def test_an_interrupt_at_any_line_leaves_an_engine_that_can_cancel_and_go_on(
    interrupt_at_line: Any,
) -> None:
    # Where the interrupt comes is counted in lines of nextn's Python code within one step.
    for line in range(1, 1000):
        engine, executor = make_engine(block_count=8)
        one, two = (engine.submit(greedy([n] * 40, max_tokens=9, draft=2)) for n in (1, 2))
        engine.step()
        engine.step()
        interrupted = interrupt_at_line(line, engine.step)
        engine.cancel(one)
        engine.cancel(two)
        engine.step()
        assert one.statistics.tokens >= 1
        assert engine.running == engine.waiting == engine.cache.used == 0
        assert engine.cache.available == engine.cache.block_count
        requests = [greedy([n] * 40, max_tokens=9) for n in (1, 2)]
        sequences = [engine.submit(request) for request in requests]
        written = finish(engine)
        for sequence, request in zip(sequences, requests, strict=True):
            ids = [token.id for token in written[sequence.id]]
            assert ids == Oracle(request, executor.context_length).tokens
        if not interrupted:
            break
    else:
        pytest.fail("the step never came to its end")


def test_cancelling_within_a_step_waits_for_its_end() -> None:
    engine, executor = make_engine()
    one = engine.submit(greedy([1, 2], max_tokens=50, draft="off"))
    request = greedy([3, 4], max_tokens=5)
    two = engine.submit(request)
    engine.step()
    executor.on_step = lambda: engine.cancel(one)
    written = finish(engine)
    assert one.finish_reason is None
    assert len(written[one.id]) == 1
    assert [token.id for token in written[two.id]] == Oracle(request, 128).tokens[1:]
    assert engine.cache.used == 0


def test_cancelling_twice_or_after_the_end_is_no_error() -> None:
    engine, _ = make_engine()
    sequence = engine.submit(greedy([1], max_tokens=1))
    finish(engine)
    engine.cancel(sequence)
    engine.cancel(sequence)
    assert engine.cache.used == 0


def test_a_sequence_without_a_choice_fails_alone() -> None:
    banned = dict.fromkeys(range(VOCAB), float("-inf"))
    engine, _ = make_engine()
    bad = engine.submit(
        greedy([1], sampling=SamplingParams(temperature=0.0, seed=0, logit_bias=banned))
    )
    request = greedy([3, 4], max_tokens=5)
    good = engine.submit(request)
    events = engine.step()
    assert [(event.sequence, type(event.error)) for event in events if event.error] == [
        (bad, NoTokenError)
    ]
    ids = [event.token.id for event in events if event.token]
    ids += [token.id for token in finish(engine)[good.id]]
    assert ids == Oracle(request, 128).tokens
    assert engine.cache.used == 0


def test_a_seed_is_drawn_where_none_is_given() -> None:
    engine, _ = make_engine()
    request = GenerationRequest(prompt=[1], sampling=SamplingParams(temperature=1.0))
    seeds = {engine.submit(request).sampler.seed for _ in range(3)}
    assert len(seeds) == 3


def test_impossible_requests_are_refused_at_once() -> None:
    engine, _ = make_engine(context_length=64)
    with pytest.raises(RequestError, match=r"64 tokens.*context holds 64"):
        engine.submit(greedy([1] * 64))
    assert engine.waiting == 0


def test_a_cache_smaller_than_the_context_is_a_defect() -> None:
    with pytest.raises(ValueError, match="3 cache blocks cannot hold one sequence of 128"):
        make_engine(block_count=3)


@pytest.mark.parametrize("drafts", [("off", "off"), ("auto", 2), ("auto", "auto")])
def test_only_steps_of_sequences_that_may_draft_tell_whether_drafts_pay(
    drafts: tuple[str | int, str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(Switch, "observe", lambda *arguments: seen.append(arguments[1]))
    engine, _ = make_engine()
    for draft in drafts:
        engine.submit(greedy([3, 4], max_tokens=8, draft=draft))
    while engine.running or engine.waiting:
        engine.step()
    assert bool(seen) == (drafts == ("auto", "auto"))
