from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from nextn.engine import Engine, GenerationRequest
from nextn.engine.async_engine import AsyncEngine
from nextn.errors import EngineError, RequestError
from nextn.sampling import LogitsError, SamplingParams
from tests.support.fake_executor import FakeExecutor, FakeTokenizer, Oracle


def run(test: Callable[[AsyncEngine, FakeExecutor, Engine], Coroutine[Any, Any, None]]) -> None:
    """Runs a test with an engine, and checks that it leaves nothing behind."""
    executor = FakeExecutor()
    tokenizer: Any = FakeTokenizer()
    engine = Engine(executor, tokenizer)

    async def main() -> None:
        async with AsyncEngine(engine) as asynchronous:
            await test(asynchronous, executor, engine)

    asyncio.run(main())
    assert engine.running == engine.waiting == engine.cache.used == 0
    assert "nextn engine" not in {thread.name for thread in threading.enumerate()}


def request(number: int, **options: Any) -> GenerationRequest:
    options.setdefault("sampling", SamplingParams(temperature=0.7, seed=number))
    return GenerationRequest(prompt=[number, number + 1], **({"max_tokens": 20} | options))


def test_tasks_together_get_their_own_texts() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        requests = [request(number) for number in range(12)]
        generations = await asyncio.gather(*map(engine.generate, requests))
        for asked, generation in zip(requests, generations, strict=True):
            oracle = Oracle(asked, 128)
            assert generation.tokens == oracle.tokens
            assert generation.text == oracle.text
            assert generation.finish_reason == oracle.finish_reason
            assert generation.statistics.tokens == len(oracle.tokens)

    run(test)


def test_tokens_come_one_by_one_or_by_step() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        expected = Oracle(request(1), 128).tokens
        assert [token.id async for token in engine.open(request(1))] == expected
        stream = engine.open(request(1))
        read = []
        while tokens := await stream.read():
            read += [token.id for token in tokens]
        assert read == expected
        assert await stream.read() == []

    run(test)


@pytest.mark.parametrize("way", ["close", "break", "forget", "cancel"])
def test_a_stream_that_is_left_is_cancelled(way: str) -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, inner: Engine) -> None:
        held = threading.Event()
        stepping = threading.Event()

        def hold() -> None:
            stepping.set()
            held.wait(60)

        stream = engine.open(request(1, max_tokens=100))
        assert len(await stream.read()) >= 1
        executor.on_step = hold
        await asyncio.to_thread(stepping.wait, 60)
        if way == "close":
            stream.close()
        elif way == "break":
            async with stream:
                pass
        elif way == "cancel":
            task = asyncio.create_task(stream.collect())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            del task
        steps = len(executor.steps)
        if way in ("forget", "cancel"):
            del stream
            gc.collect()
        held.set()
        assert await engine.call(lambda inner: inner.running) == 0
        assert len(executor.steps) <= steps + 1
        assert inner.cache.used == 0

    run(test)


def test_a_reader_that_stops_holds_up_nobody() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        slow = engine.open(request(1))
        quick = await engine.generate(request(2, max_tokens=60))
        assert quick.tokens == Oracle(request(2, max_tokens=60), 128).tokens
        assert (await slow.collect()).tokens == Oracle(request(1), 128).tokens

    run(test)


def test_an_impossible_request_is_refused_at_once() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        with pytest.raises(RequestError, match="max_tokens") as caught:
            engine.open(request(1, max_tokens=0))
        assert caught.value.field == "max_tokens"

    run(test)


def test_a_step_that_fails_ends_its_texts_and_no_others() -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, _: Engine) -> None:
        def fail() -> None:
            executor.on_step = lambda: None
            raise OSError("broken")

        executor.on_step = fail
        stream = engine.open(request(1))
        with pytest.raises(EngineError, match="OSError"):
            await stream.collect()
        assert (await engine.generate(request(2))).tokens == Oracle(request(2), 128).tokens

    run(test)


def test_logits_without_a_choice_end_one_text() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        every_token = SamplingParams(logit_bias={i: float("-inf") for i in range(64)})
        good = engine.open(request(3))
        with pytest.raises(LogitsError):
            await engine.generate(request(1, sampling=every_token))
        assert (await good.collect()).tokens == Oracle(request(3), 128).tokens

    run(test)


def test_closing_ends_streams_with_an_error() -> None:
    async def main() -> None:
        tokenizer: Any = FakeTokenizer()
        engine = AsyncEngine(Engine(FakeExecutor(), tokenizer))
        stream = engine.open(request(1, max_tokens=120))
        await engine.close()
        with pytest.raises(RequestError, match="closed"):
            await stream.collect()
        with pytest.raises(RequestError, match="closed"):
            engine.open(request(1))
        with pytest.raises(RequestError, match="closed"):
            await engine.call(lambda inner: inner.running)
        await engine.close()

    asyncio.run(main())


def test_fast_steps_are_handed_over_together_but_for_begin_and_end() -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, _: Engine) -> None:
        handed: list[int] = []
        deliver = engine._deliver

        def count(events: Any) -> None:
            handed.append(len(events))
            deliver(events)

        engine._deliver = count  # type: ignore[method-assign]
        # Without drafts a step writes one token.
        generation = await engine.generate(request(1, max_tokens=100, draft="off"))
        assert len(generation.tokens) == sum(handed) == 100
        assert handed[0] == 1
        taken = generation.statistics.seconds
        assert len(handed) <= 2 + taken / 0.004
        executor.on_step = lambda: time.sleep(0.005)
        handed.clear()
        await engine.generate(request(2, max_tokens=10, draft="off"))
        assert handed == [1] * 10

    run(test)


def test_calls_run_between_steps_and_pass_on_errors() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        assert await engine.call(lambda inner: inner.cache.block_count) == 16
        with pytest.raises(ZeroDivisionError):
            await engine.call(lambda _: 1 // 0)

    run(test)


def test_a_text_that_ends_after_its_stream_was_closed_is_not_whole() -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, inner: Engine) -> None:
        stream = engine.open(request(1, max_tokens=5))
        await asyncio.sleep(0)
        # The thread ends the text before it sees that the stream is closed.
        while stream._sequence.finish_reason is None:
            time.sleep(0.001)
        stream.close()
        with pytest.raises(RequestError, match="closed"):
            await stream.collect()

    run(test)
