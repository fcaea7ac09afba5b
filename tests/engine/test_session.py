from __future__ import annotations

import gc
import signal
import threading
from typing import Any

import pytest

from nextn.engine import Engine, GenerationRequest
from nextn.engine.session import Generation, Session
from nextn.errors import RequestError
from nextn.sampling import LogitsError, SamplingParams
from tests.support.fake_executor import VOCAB, FakeExecutor, FakeTokenizer, Oracle


def make() -> tuple[Session, Engine, FakeExecutor]:
    executor = FakeExecutor()
    tokenizer: Any = FakeTokenizer()
    engine = Engine(executor, tokenizer)
    return Session(engine), engine, executor


def request(number: int, **options: Any) -> GenerationRequest:
    options.setdefault("sampling", SamplingParams(temperature=0.7, seed=number))
    return GenerationRequest(prompt=[number, number + 1], **({"max_tokens": 20} | options))


def check(generation: Generation, asked: GenerationRequest) -> None:
    oracle = Oracle(asked, 128)
    assert generation.tokens == oracle.tokens
    assert generation.text == oracle.text
    assert generation.finish_reason == oracle.finish_reason
    assert generation.seed == asked.sampling.seed


def test_streams_that_are_read_in_turn_get_their_own_tokens() -> None:
    session, _, executor = make()
    requests = [request(number) for number in range(3)]
    streams = [session.open(each) for each in requests]
    texts = list(zip(*streams, strict=True))
    for index, asked in enumerate(requests):
        assert [token[index].id for token in texts] == Oracle(asked, 128).tokens
    assert len(executor.steps) <= 20  # they ran together


def test_a_collected_stream_is_the_whole_generation() -> None:
    session, engine, _ = make()
    asked = request(1, sampling=SamplingParams(temperature=0.7, seed=1, logprobs=2))
    generation = session.open(asked).collect()
    check(generation, asked)
    assert generation.statistics.tokens == 20
    assert all(value is not None and value <= 0 for value in generation.logprobs)
    assert all(len(token.top_logprobs) == 2 for token in generation.events)
    assert engine.running == 0


def test_a_stream_that_was_closed_has_no_whole_text_even_if_the_text_ended_by_then() -> None:
    session, engine, _ = make()
    closed, other = session.open(request(1)), session.open(request(2))
    next(closed)
    other.collect()  # they run together, so the first text is written, but not read
    assert not engine.running
    closed.close()
    with pytest.raises(RequestError, match="closed before the text was finished"):
        closed.collect()


@pytest.mark.parametrize("way", ["close", "with", "forget"])
def test_a_stream_that_is_left_early_is_cancelled(way: str) -> None:
    session, engine, _ = make()
    stream = session.open(request(1))
    next(stream)
    assert engine.running == 1
    if way == "close":
        stream.close()
    elif way == "with":
        with stream:
            next(stream)
    else:
        del stream
        gc.collect()
    assert engine.running == engine.waiting == engine.cache.used == 0
    if way != "forget":
        assert list(stream) == []
        assert stream.statistics.tokens >= 1


def test_threads_share_the_engine() -> None:
    session, _, _ = make()
    requests = [request(number) for number in range(12)]
    generations: dict[int, Generation] = {}

    def write(number: int) -> None:
        generations[number] = session.open(requests[number]).collect()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number, asked in enumerate(requests):
        check(generations[number], asked)


def test_an_interrupted_stream_ends_and_the_others_go_on() -> None:
    session, engine, executor = make()
    asked = request(2)
    one, two = session.open(request(1)), session.open(asked)
    next(one)

    def interrupt() -> None:
        executor.on_step = lambda: None
        raise KeyboardInterrupt

    executor.on_step = interrupt
    with pytest.raises(KeyboardInterrupt):
        list(one)
    assert list(one) == []
    assert one.statistics.tokens >= 1
    assert engine.running + engine.waiting == 1
    check(two.collect(), asked)


def test_a_failure_is_raised_where_the_stream_is_read() -> None:
    session, engine, _ = make()
    banned = SamplingParams(seed=0, logit_bias=dict.fromkeys(range(VOCAB), float("-inf")))
    bad, good = session.open(request(1, sampling=banned)), session.open(request(2))
    check(good.collect(), request(2))
    with pytest.raises(LogitsError):
        bad.collect()
    assert list(bad) == []
    assert engine.running == 0


def test_a_closed_session_refuses_everything_with_one_clear_error() -> None:
    session, _, _ = make()
    stream = session.open(request(1))
    session.close()
    with pytest.raises(RequestError, match="closed"):
        next(stream)
    with pytest.raises(RequestError, match="closed"):
        session.open(request(1))


def test_an_impossible_request_leaves_nothing_behind() -> None:
    session, engine, _ = make()
    with pytest.raises(RequestError):
        session.open(request(1, max_tokens=0))
    assert engine.waiting == 0


def test_an_interrupt_during_a_step_loses_no_token_of_any_stream() -> None:
    session, _, executor = make()
    requests = [request(number) for number in range(2)]
    streams = [session.open(each) for each in requests]
    executor.on_step = lambda: signal.raise_signal(signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        next(streams[0])
    executor.on_step = lambda: None
    assert signal.getsignal(signal.SIGINT) is before
    check(streams[1].collect(), requests[1])


def test_a_stream_that_another_thread_closes_ends() -> None:
    session, engine, _ = make()
    stream, other = session.open(request(1)), session.open(request(2))
    next(stream)
    session.end(stream._sequence)
    assert list(stream) == []
    check(other.collect(), request(2))
    assert engine.running == 0


def test_what_was_read_before_is_part_of_a_collected_text() -> None:
    session, _, _ = make()
    asked = request(1)
    stream = session.open(asked)
    next(stream)
    next(stream)
    check(stream.collect(), asked)


def test_a_lost_token_is_an_error_and_not_an_endless_wait() -> None:
    session, engine, _ = make()
    stream = session.open(request(1, max_tokens=1))
    engine.step()  # whose events nobody delivers
    with pytest.raises(RuntimeError, match="no event is left"):
        next(stream)
