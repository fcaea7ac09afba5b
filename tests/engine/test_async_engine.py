from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine
from collections.abc import Sequence as Items
from dataclasses import replace
from typing import Any

import pytest

from nextn.engine import Engine, GenerationRequest
from nextn.engine.async_engine import _HAND_OVER_SECONDS, AsyncEngine
from nextn.errors import EngineError, RequestError
from nextn.sampling import LogitsError, SamplingParams
from nextn.speculate import Draft, Want
from tests.support.fake_drafters import Parrot
from tests.support.fake_executor import FakeExecutor, FakeTokenizer, Oracle


def run(
    test: Callable[[AsyncEngine, FakeExecutor, Engine], Coroutine[Any, Any, None]], **options: Any
) -> None:
    """Runs a test with an engine, and checks that it leaves nothing behind."""
    executor = FakeExecutor()
    tokenizer: Any = FakeTokenizer()
    engine = Engine(executor, tokenizer, **options)

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


BAD = 59
"""A token that no request but the bad one has in its prompt."""


async def write_beside_a_bad_request(engine: AsyncEngine) -> list[str]:
    """Texts that run and texts that wait, the third of them bad; how those end that are not whole.

    Checks that all others are what the oracle says.
    """
    requests = [request(number) for number in range(6)]
    # Drafts of fixed depth are made however little several texts gain from drafts.
    requests[2] = replace(request(2), prompt=[BAD, 1], draft=2)
    writing = [engine.generate(each) for each in requests]
    errors: list[str] = []
    for index, result in enumerate(await asyncio.gather(*writing, return_exceptions=True)):
        if isinstance(result, BaseException):
            assert isinstance(result, EngineError)
            errors.append(f"{index}: {result}")
        else:
            assert result.tokens == Oracle(requests[index], 128).tokens
    return errors


def has_bad_token(executor: FakeExecutor) -> bool:
    rows = executor.steps[-1]
    return bool((rows.tokens[rows.positions == 0] == BAD).any())


@pytest.mark.parametrize("max_sequences", [1, 3, 8])
def test_a_request_that_breaks_its_steps_fails_alone(max_sequences: int) -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, _: Engine) -> None:
        def fail() -> None:
            if has_bad_token(executor):
                raise OSError("broken")

        executor.on_step = fail
        (error,) = await write_beside_a_bad_request(engine)
        assert error.startswith("2: the step failed: OSError")

    run(test, max_sequences=max_sequences)


def test_a_step_that_fails_once_ends_none_of_several_texts() -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, _: Engine) -> None:
        def fail() -> None:
            if len(executor.steps) % 3 == 0 and executor.steps[-1].slots.max() > 0:
                raise OSError("broken")

        executor.on_step = fail
        assert await write_beside_a_bad_request(engine) == []

    run(test)


def test_steps_that_always_fail_end_every_text() -> None:
    async def test(engine: AsyncEngine, executor: FakeExecutor, _: Engine) -> None:
        def fail() -> None:
            raise OSError("broken")

        executor.on_step = fail
        assert len(await write_beside_a_bad_request(engine)) == 6
        executor.on_step = lambda: None
        assert await write_beside_a_bad_request(engine) == []

    run(test, max_sequences=2)


def test_what_fails_outside_the_computation_ends_no_text_that_waits() -> None:
    class Broken(Parrot):
        def propose(self, wants: Items[Want]) -> list[Draft]:
            if any(want.tokens[0] == BAD for want in wants):
                raise ZeroDivisionError
            return super().propose(wants)

    async def test(engine: AsyncEngine, _: FakeExecutor, __: Engine) -> None:
        # Two are written at a time, so that one of the first two may still be there.
        errors = await write_beside_a_bad_request(engine)
        assert {"0", "1", "2", "3"} >= {error[0] for error in errors} >= {"2"}
        assert len(errors) <= 2
        assert all("ZeroDivisionError" in error for error in errors)

    run(test, max_sequences=2, drafters=[Broken()])


def test_a_plan_that_fails_ends_every_text() -> None:
    async def test(engine: AsyncEngine, _: FakeExecutor, inner: Engine) -> None:
        plan = inner._scheduler.plan

        def fail() -> Any:
            raise KeyError

        inner._scheduler.plan = fail  # type: ignore[method-assign]
        with pytest.raises(EngineError, match="KeyError"):
            await engine.generate(request(1))
        inner._scheduler.plan = plan  # type: ignore[method-assign]
        assert await write_beside_a_bad_request(engine) == []

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
        assert len(handed) <= 2 + taken / _HAND_OVER_SECONDS
        executor.on_step = lambda: time.sleep(1.1 * _HAND_OVER_SECONDS)
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
