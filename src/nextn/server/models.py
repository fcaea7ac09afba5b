"""The models of a server by name: loaded when first asked for, given up when long unused.

A request holds a `Lease` of its model as long as it writes. A model without leases, and for which
nobody waits, may be unloaded: when its time is over, or when another one needs its place; the one
unused for longest goes first. Where all places are taken by busy models, later requests for these
wait until the one that needs a place has it, or it might never get one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from nextn.errors import MemoryLimitError
from nextn.server.errors import ApiError

if TYPE_CHECKING:
    from nextn.engine.async_engine import AsyncEngine
    from nextn.model import Model

_log = logging.getLogger("nextn.server")

RETRY_SECONDS = "5"
"""What clients are told to wait when a model is being loaded or the server is full."""


_FOREVER = 10 * 365 * 86400.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model that a server can load.

    Attributes:
        name: what requests call it.
        load: loads it; called in a thread.
        aliases: further names.
    """

    name: str
    load: Callable[[], Model]
    aliases: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A model that is loaded, and the engine that runs it.

    Attributes:
        name: what requests call it.
        model: the model.
        engine: runs its requests.
        loaded_at: when it was loaded, in seconds since 1970.
        load_seconds: how long that took.
        leases: requests that hold it.
        used_at: when a request last held it, on the clock of `time.monotonic`.
        keep_alive: seconds that it stays loaded without a request; None for ever.
    """

    name: str
    model: Model
    engine: AsyncEngine
    loaded_at: float
    load_seconds: float
    keep_alive: float | None
    leases: int = 0
    used_at: float = field(default_factory=time.monotonic)
    timer: asyncio.TimerHandle | None = None


class Lease:
    """The right of one request to use a model. Made by `Models.acquire`; release it once."""

    def __init__(self, models: Models, loaded: LoadedModel, *, prepares: bool = False) -> None:
        self._models = models
        self._held = True
        self._prepares = prepares
        self.loaded = loaded
        loaded.leases += 1
        if loaded.timer is not None:
            loaded.timer.cancel()
            loaded.timer = None

    def share(self) -> Lease:
        """Another lease of the same model."""
        return Lease(self._models, self.loaded)

    def keep_alive(self, seconds: float | None) -> None:
        """Set how long the model stays loaded from now on without a request; None for ever."""
        self.loaded.keep_alive = _limited(seconds)

    def release(self) -> None:
        """Give it back; releasing twice does nothing."""
        if self._held:
            self._held = False
            self._models._released(self.loaded, prepared=self._prepares)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _unavailable(message: str, code: str = "unavailable_error") -> ApiError:
    return ApiError(503, message, code=code, headers={"Retry-After": RETRY_SECONDS})


def _limited(seconds: float | None) -> float | None:
    """A time to wait; None where it is so long that no clock or calendar has it."""
    return None if seconds is None or seconds > _FOREVER else seconds


class Models:
    """Loads and unloads the models of a server. For the tasks of one event loop.

    Args:
        specs: the models; the first is the one for requests that name none.
        most_loaded: most models that are loaded at a time.
        keep_alive: seconds that a model stays loaded without a request; None for ever.
        most_requests: most requests that wait for a model, or prepare their texts with one;
            further ones are refused.
    """

    def __init__(
        self,
        specs: Iterable[ModelSpec],
        *,
        most_loaded: int = 1,
        keep_alive: float | None = None,
        most_requests: int = 256,
    ) -> None:
        self.specs = {spec.name: spec for spec in specs}
        if not self.specs or most_loaded < 1:
            raise ValueError("[models] at least one model must be there and may be loaded")
        self._by_alias = {alias: spec for spec in self.specs.values() for alias in spec.aliases}
        self._most_loaded = most_loaded
        self._keep_alive = _limited(keep_alive)
        self._loading: dict[str, asyncio.Task[LoadedModel]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._places: set[str] = set()
        self._most_requests = most_requests
        self._requests = 0
        self._wanted: Counter[str] = Counter()  # requests that wait until it is loaded
        self._place_wanted = 0  # models that wait until a busy one can go
        self._changed = asyncio.Event()
        self._closed = False
        self.loaded: dict[str, LoadedModel] = {}
        self.started = False
        """Whether the first model was loaded once; before that, requests are refused."""

    @property
    def default(self) -> str:
        """The model of requests that name none."""
        return next(iter(self.specs))

    @property
    def loading(self) -> bool:
        """Whether any model is being loaded."""
        return bool(self._loading)

    def is_loading(self, name: str) -> bool:
        """Whether a model is being loaded."""
        return name in self._loading

    def find(self, name: str | None) -> ModelSpec:
        """The model of a name.

        Raises:
            ApiError: 404, with the names that there are.
        """
        if not name:
            return self.specs[self.default]
        spec = self.specs.get(name) or self._by_alias.get(name)
        if spec is None:
            raise ApiError(
                404,
                f"model: there is no model {name[:200]!r}; known are {', '.join(self.specs)}",
                field="model",
                code="model_not_found",
            )
        return spec

    async def start(self) -> None:
        """Load the first model, and accept requests from then on.

        Raises:
            NextnError: as `nextn.load`.
        """
        await self._load(self.specs[self.default], lambda _: None)
        self.started = True

    async def acquire(self, name: str | None) -> Lease:
        """Get a model, loaded if need be; waits while its place is taken by a busy one.

        Raises:
            ApiError: there is no such model, the server is still starting or ends, or too many
                requests wait already.
            NextnError: it cannot be loaded.
        """
        spec = self.find(name)
        if not self.started:
            raise _unavailable("Loading model")
        if self._requests >= self._most_requests:
            raise _unavailable(
                f"the server is busy: {self._requests} requests wait for a model; try again later",
                code="server_busy",
            )
        self._requests += 1
        try:
            while self._place_wanted and spec.name in self.loaded:
                await self._changed.wait()
            self._check_open()
            loaded = self.loaded.get(spec.name)
            if loaded is None:
                return await self._load(spec, lambda loaded: Lease(self, loaded, prepares=True))
            return Lease(self, loaded, prepares=True)
        except BaseException:
            self._requests -= 1
            raise

    async def unload(self, name: str) -> bool:
        """Unload a model unless a request holds it; whether it was unloaded."""
        loaded = self.loaded.get(name)
        if loaded is None or not self._is_idle(loaded):
            return False
        await self._close(loaded)
        return True

    async def close(self) -> None:
        """Unload all models; texts that are being written end, and none begins any more."""
        self._closed = True
        self._tell()
        for task in list(self._loading.values()):
            # Loading cannot be broken off; what was loaded is closed below.
            await asyncio.wait([task])
        for loaded in list(self.loaded.values()):
            await self._close(loaded)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _load(self, spec: ModelSpec, use: Callable[[LoadedModel], T]) -> T:
        """What `use` makes of a model when it is loaded; until then it is not given up."""
        name = spec.name
        task = self._loading.get(name)
        if task is None:
            task = self._loading[name] = asyncio.create_task(self._load_now(spec))
            task.add_done_callback(lambda _: self._loading.pop(name, None))
        self._wanted[name] += 1
        try:
            # Whoever waits may leave; the others still want it.
            loaded = await asyncio.shield(task)
            self._check_open()
            return use(loaded)
        finally:
            self._wanted[name] -= 1
            self._note_idle(self.loaded.get(name))

    def _check_open(self) -> None:
        if self._closed:
            raise _unavailable("the server ends")

    async def _load_now(self, spec: ModelSpec) -> LoadedModel:
        await self._take_place(spec.name)
        started = time.monotonic()
        try:
            model = await self._load_into_memory(spec)
            taken = time.monotonic() - started
            loaded = LoadedModel(
                spec.name, model, model.async_engine(), time.time(), taken, self._keep_alive
            )
        except BaseException:
            self._places.discard(spec.name)
            self._tell()
            raise
        self.loaded[spec.name] = loaded
        self._note_idle(loaded)
        _log.info("loaded %s in %.1f s", spec.name, taken)
        return loaded

    async def _load_into_memory(self, spec: ModelSpec) -> Model:
        """Load a model; as long as it does not fit, idle ones are unloaded."""
        while True:
            try:
                return await asyncio.to_thread(spec.load)
            except MemoryLimitError:
                idle = self._longest_unused()
                if idle is None:
                    raise
                await self._close(idle)

    def _is_idle(self, loaded: LoadedModel) -> bool:
        return not loaded.leases and not self._wanted[loaded.name]

    def _longest_unused(self) -> LoadedModel | None:
        idle = filter(self._is_idle, self.loaded.values())
        return min(idle, key=lambda loaded: loaded.used_at, default=None)

    async def _take_place(self, name: str) -> None:
        """Wait for one of the `most_loaded` places; unloads what is idle.

        Raises:
            ApiError: the server ends.
        """
        while True:
            self._check_open()
            # The model itself may still be in its place, while it is being unloaded.
            if name not in self._places:
                if len(self._places) < self._most_loaded:
                    self._places.add(name)
                    return
                idle = self._longest_unused()
                if idle is not None:
                    await self._close(idle)
                    continue
            self._place_wanted += 1
            try:
                await self._changed.wait()
            finally:
                self._place_wanted -= 1

    async def _close(self, loaded: LoadedModel) -> None:
        if self.loaded.pop(loaded.name, None) is None:
            return
        if loaded.timer is not None:
            loaded.timer.cancel()
        try:
            await loaded.engine.close()
            await asyncio.to_thread(loaded.model.close)
        finally:
            self._places.discard(loaded.name)
            self._tell()
        _log.info("unloaded %s", loaded.name)

    def _released(self, loaded: LoadedModel, *, prepared: bool) -> None:
        self._requests -= prepared
        loaded.leases -= 1
        loaded.used_at = time.monotonic()
        self._note_idle(loaded)

    def _note_idle(self, loaded: LoadedModel | None) -> None:
        """If a model has become idle, its time runs, and who waits for its place may have it."""
        if loaded is None or not self._is_idle(loaded):
            return
        if loaded.timer is not None:
            loaded.timer.cancel()
            loaded.timer = None
        if loaded.keep_alive is not None:
            loop = asyncio.get_running_loop()
            loaded.timer = loop.call_later(loaded.keep_alive, self._expire, loaded)
        self._tell()

    def _expire(self, loaded: LoadedModel) -> None:
        if self._is_idle(loaded):
            task = asyncio.create_task(self._close_if_idle(loaded))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close_if_idle(self, loaded: LoadedModel) -> None:
        if self._is_idle(loaded):
            await self._close(loaded)

    def _tell(self) -> None:
        """Wake all that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()
