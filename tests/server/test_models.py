from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import nextn
from nextn.errors import MemoryLimitError, SourceError
from nextn.server.errors import ApiError
from nextn.server.models import Models, ModelSpec
from tests.server.conftest import RunningServer, spec


class Loader:
    """Loads a tiny model and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.open = 0
        self.gate = threading.Event()
        self.gate.set()

    def spec(self, name: str) -> ModelSpec:
        return ModelSpec(name=name, load=self._load, aliases=(name + "-alias",))

    def _load(self) -> nextn.Model:
        self.gate.wait(60)
        self.count += 1
        return nextn.load(self.path, threads=1, context=64, max_sequences=1, head=None)


@pytest.fixture
def loader(tiny_path: Path) -> Loader:
    return Loader(tiny_path)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_model_is_loaded_once_when_many_ask(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a"), loader.spec("b")], most_loaded=2)
        await models.start()
        leases = await asyncio.gather(*(models.acquire("b-alias") for _ in range(5)))
        assert loader.count == 2
        assert models.loaded["b"].leases == 5
        for lease in leases:
            lease.release()
            lease.release()
        assert models.loaded["b"].leases == 0
        await models.close()
        assert not models.loaded

    run(test)


def test_the_model_unused_for_longest_makes_room(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec(name) for name in "abc"], most_loaded=2)
        await models.start()
        for name in ("b", "a"):
            (await models.acquire(name)).release()
        (await models.acquire("c")).release()
        assert set(models.loaded) == {"a", "c"}
        await models.close()

    run(test)


def test_a_busy_model_is_waited_for(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec(name) for name in "abc"], most_loaded=1)
        await models.start()
        first = await models.acquire(None)
        waiting = [asyncio.create_task(models.acquire(name)) for name in ("b", "c")]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        assert first.loaded.name == "a"
        first.release()
        for task in waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                assert len(models.loaded) == 1
                task.result().release()
                waiting.remove(task)
        await models.close()

    run(test)


def test_a_model_without_requests_is_unloaded_after_a_while(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a")], keep_alive=0.01)
        await models.start()
        lease = await models.acquire("a")
        await asyncio.sleep(0.05)
        assert "a" in models.loaded
        lease.release()
        while "a" in models.loaded:
            await asyncio.sleep(0.01)
        lease = await models.acquire("a")
        for forever in (None, 1e18, 1e300):
            lease.keep_alive(forever)
            assert models.loaded["a"].keep_alive is None
        lease.release()
        await asyncio.sleep(0.05)
        assert "a" in models.loaded
        await models.close()

    run(test)


def test_a_model_that_cannot_be_loaded_leaves_its_place(loader: Loader) -> None:
    async def test() -> None:
        def fail() -> nextn.Model:
            raise SourceError("gone")

        models = Models([loader.spec("a"), ModelSpec(name="bad", load=fail)], most_loaded=1)
        await models.start()
        for _ in range(2):
            with pytest.raises(SourceError, match="gone"):
                await models.acquire("bad")
        (await models.acquire("a")).release()
        await models.close()

    run(test)


def test_a_model_that_does_not_fit_makes_idle_ones_go(loader: Loader) -> None:
    async def test() -> None:
        def load() -> nextn.Model:
            if models.loaded:
                raise MemoryLimitError("too large")
            return loader._load()

        large = ModelSpec(name="large", load=load)
        models = Models([loader.spec("a"), loader.spec("b"), large], most_loaded=3)
        await models.start()
        (await models.acquire("b")).release()
        held = await models.acquire("a")
        with pytest.raises(MemoryLimitError):
            await models.acquire("large")
        assert set(models.loaded) == {"a"}
        held.release()
        (await models.acquire("large")).release()
        assert set(models.loaded) == {"large"}
        await models.close()

    run(test)


def test_requests_before_the_first_model_are_told_to_wait(loader: Loader) -> None:
    async def test() -> None:
        loader.gate.clear()
        models = Models([loader.spec("a")])
        starting = asyncio.create_task(models.start())
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="Loading model") as caught:
            await models.acquire("a")
        assert caught.value.status == 503
        assert "Retry-After" in caught.value.headers
        with pytest.raises(ApiError, match="known are a"):
            await models.acquire("other")
        loader.gate.set()
        await starting
        (await models.acquire("a")).release()
        await models.close()

    run(test)


def test_models_are_switched_by_name_over_http(tiny_path: Path) -> None:
    specs = [spec(tiny_path, "one"), spec(tiny_path, "two")]
    body = {"prompt": "a", "max_tokens": 4, "temperature": 0}
    with RunningServer(specs, most_loaded=1) as server:
        assert server.post("/v1/completions", {**body, "model": "two"}).json()["model"] == "two"
        status = {
            card["id"]: card["status"]["value"] for card in server.get("/v1/models").json()["data"]
        }
        assert status == {"one": "unloaded", "two": "loaded"}
        assert server.post("/v1/completions", body).json()["model"] == "one"


def test_a_model_that_was_waited_for_is_not_given_up_before_it_is_used(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec(name) for name in "abc"], keep_alive=0)
        await models.start()
        for name in "bca":
            lease = await models.acquire(name)
            assert models.loaded[name] is lease.loaded
            # Whoever comes in the moment in which its time is over still gets it.
            lease.release()
            await asyncio.sleep(0)
            lease = await models.acquire(name)
            assert models.loaded[name] is lease.loaded
            for _ in range(5):
                await asyncio.sleep(0)
            assert models.loaded[name] is lease.loaded
            lease.release()
        assert len(models.loaded) <= 1
        await models.close()

    run(test)


def test_who_comes_in_the_moment_of_expiry_keeps_the_model(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a")], keep_alive=3600)
        await models.start()
        models._expire(models.loaded["a"])  # as its timer does
        lease = await models.acquire("a")
        for _ in range(5):
            await asyncio.sleep(0)
        assert models.loaded["a"] is lease.loaded
        lease.release()
        await models.close()

    run(test)


@pytest.mark.parametrize("most_loaded", [1, 2])
def test_a_model_is_loaded_anew_when_it_is_unloaded(loader: Loader, most_loaded: int) -> None:
    async def test() -> None:
        models = Models([loader.spec("a"), loader.spec("b")], most_loaded=most_loaded)
        await models.start()
        unloading = asyncio.create_task(models.unload("a"))
        await asyncio.sleep(0)
        assert "a" not in models.loaded
        async with asyncio.timeout(60):
            lease = await models.acquire("a")
        assert await unloading
        assert loader.count == 2
        # Its place is taken: there is room for one less.
        (await models.acquire("b")).release() if most_loaded == 2 else lease.release()
        assert len(models._places) == len(models.loaded) == most_loaded
        await models.close()

    run(test)


def test_a_model_gets_its_place_although_another_one_is_always_asked_for(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a"), loader.spec("b")], most_loaded=1)
        await models.start()
        lease = await models.acquire("a")
        wanted = asyncio.create_task(models.acquire("b"))
        await asyncio.sleep(0)
        later = [asyncio.create_task(models.acquire("a")) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        lease.release()
        async with asyncio.timeout(60):
            (await wanted).release()
            for task in later:
                (await task).release()
        await models.close()

    run(test)


def test_no_more_requests_wait_than_allowed(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a"), loader.spec("b")], most_requests=3)
        await models.start()
        loader.gate.clear()
        waiting = [asyncio.create_task(models.acquire("b")) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="3 requests wait") as caught:
            await models.acquire("b")
        assert caught.value.status == 503
        # One that leaves makes room, and so does one that has prepared its texts.
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(models.acquire("b")))
        loader.gate.set()
        first, *others = await asyncio.gather(*waiting)
        with pytest.raises(ApiError, match="3 requests wait"):
            await models.acquire("b")
        text = first.share()
        first.release()
        (await models.acquire("b")).release()
        for lease in (text, *others):
            lease.release()
        await models.close()

    run(test)


def test_closing_waits_for_no_model_that_is_not_being_loaded_yet(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a"), loader.spec("b")], most_loaded=1)
        await models.start()
        await models.acquire("a")
        waiting = asyncio.create_task(models.acquire("b"))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            await models.close()
        with pytest.raises(ApiError, match="ends"):
            await waiting
        with pytest.raises(ApiError, match="ends"):
            await models.acquire("a")
        assert loader.count == 1
        assert not models.loaded

    run(test)


def test_a_model_that_nobody_waits_for_any_more_has_its_time(loader: Loader) -> None:
    async def test() -> None:
        models = Models([loader.spec("a"), loader.spec("b")], most_loaded=2, keep_alive=0.01)
        await models.start()
        loader.gate.clear()
        waiting = asyncio.create_task(models.acquire("b"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        loader.gate.set()
        while loader.count < 2 or models.loaded:
            await asyncio.sleep(0.01)
        await models.close()

    run(test)
