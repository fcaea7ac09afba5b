"""Sends the requests: every side in turn, part by part, at each load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nextn.bench.mtp.measure import DifferentTextError
from nextn.bench.serve.client import Answer, Client, ServerError
from nextn.bench.serve.settings import Load, Settings
from nextn.engine.request import DraftSetting
from nextn.prompts import Prompt

Progress = Callable[[int, int], None]
"""Told how many requests are answered, and how many there are."""

PEER = "peer"
"""The name of the side that is another server."""

_COMPARED = 4
_NUMBERS = range(100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Side:
    """Who is asked, and how.

    Attributes:
        name: such as "mtp off".
        client: the server.
        fields: of the request's body.
    """

    name: str
    client: Client
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """What one side answered at one load.

    Attributes:
        side: its name.
        load: how the requests came.
        answers: all of them, failed ones included.
        seconds: how long it took, from the first request of each part to its last answer.
    """

    side: str
    load: Load
    answers: list[Answer] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that was measured.

    Attributes:
        runs: by load, and by side in the order of `Settings.drafts`, the peer last.
        compared: how many texts were found to be the same with all settings of drafts.
    """

    runs: list[Run]
    compared: int


def measure(
    settings: Settings,
    client: Client,
    peer: Client | None = None,
    progress: Progress | None = None,
) -> Measurements:
    """Measure every load with every side.

    The sides send the same prompts in the same order, so that they write the same texts as far as
    their models agree. No prompt is to be found in a cache: the server is asked not to look, and
    for those that do not know this, each prompt of a side has a number of its own in front. The
    peer, which may be many times slower, is asked in the first round only.

    Args:
        settings: what to send.
        client: the server of nextn.
        peer: another server.
        progress: told about every answer.

    Raises:
        RequestError: impossible settings.
        ServerError: a server answers no request at all.
        DifferentTextError: a text depends on drafts.
    """
    settings.check()
    sides = [Side(_name(draft), client, {"mtp": draft}) for draft in settings.drafts]
    if peer is not None:
        sides.append(Side(PEER, peer))
    random_numbers = random.Random(settings.seed)
    prompts = settings.load_prompts()
    random_numbers.shuffle(prompts)
    numbers = iter(random_numbers.sample(_NUMBERS, len(_NUMBERS) // 2))
    for side in sides:
        # The first request of a server may load its model.
        answer = _ask(side, prompts[0], next(numbers), settings)
        if answer.error is not None:
            raise ServerError(f"{side.client.url}: {answer.error}")
    compared = _compare(sides[: len(settings.drafts)], prompts, numbers, settings)
    parts = {load: _parts(settings.count(load), settings.rounds) for load in settings.loads}
    counter = _Counter(
        progress,
        sum(sum(each[: _rounds(side, settings)]) for each in parts.values() for side in sides),
    )
    runs = []
    for load in settings.loads:
        of_load = [Run(side.name, load) for side in sides]
        sent = 0
        for turn, count in enumerate(parts[load]):
            part = [prompts[n % len(prompts)] for n in range(sent, sent + count)]
            sent += count
            jobs = [(prompt, next(numbers)) for prompt in part]
            gaps = [random_numbers.expovariate(load.rate or 1.0) for _ in part]
            order = list(zip(sides, of_load, strict=True))
            for side, run in order[turn % len(order) :] + order[: turn % len(order)]:
                if turn < _rounds(side, settings):
                    _send(side, run, jobs, gaps, settings, counter)
        runs += of_load
    return Measurements(runs, compared)


def _parts(count: int, rounds: int) -> list[int]:
    """How many of the requests are sent in each round; the first has as many as any."""
    return [count // rounds + (turn < count % rounds) for turn in range(rounds)]


def _rounds(side: Side, settings: Settings) -> int:
    """The rounds that a side takes part in; the peer, which may be slow, only in the first."""
    return 1 if side.name == PEER else settings.rounds


def _name(draft: DraftSetting) -> str:
    return f"mtp {draft}"


class _Counter:
    """Counts answers of several threads."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def add(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)


def _ask(side: Side, prompt: Prompt, number: int, settings: Settings) -> Answer:
    first, *others = prompt.messages
    messages = [{**first, "content": f"Request {number}.\n\n{first['content']}"}, *others]
    fields: dict[str, Any] = {
        "max_tokens": settings.tokens,
        "temperature": settings.temperature,
        "seed": settings.seed,
        "cache_prompt": False,
        **side.fields,
    }
    if settings.ignore_end:
        fields["ignore_eos"] = True
    return side.client.ask(messages, **fields)


def _compare(
    sides: Sequence[Side], prompts: Sequence[Prompt], numbers: Any, settings: Settings
) -> int:
    """Check that some texts are the same with all settings of drafts; returns how many."""
    if len(sides) < 2:
        return 0
    compared = prompts[:_COMPARED]
    for prompt in compared:
        number = next(numbers)
        answers = [_ask(side, prompt, number, settings) for side in sides]
        for side, answer in zip(sides, answers, strict=True):
            if answer.error is not None:
                raise ServerError(f"{side.client.url}: {side.name}: {answer.error}")
            if answer.text != answers[0].text:
                raise DifferentTextError(
                    f"[bench] a text of {prompt.category!r} with {side.name} is not that with "
                    f"{sides[0].name}"
                )
    return len(compared)


def _send(
    side: Side,
    run: Run,
    jobs: list[tuple[Prompt, int]],
    gaps: list[float],
    settings: Settings,
    counter: _Counter,
) -> None:
    """Send a part of the requests of a side, and wait for all answers."""
    answers: list[Answer | None] = [None] * len(jobs)
    waiting = iter(range(len(jobs)))
    lock = threading.Lock()

    def ask(index: int) -> None:
        answers[index] = _ask(side, *jobs[index], settings)
        counter.add()

    def ask_one_after_the_other() -> None:
        while True:
            with lock:
                index = next(waiting, None)
            if index is None:
                return
            ask(index)

    started = time.perf_counter()
    threads = []
    if run.load.rate is None:
        for _ in range(min(run.load.concurrency or 1, len(jobs))):
            threads.append(threading.Thread(target=ask_one_after_the_other, daemon=True))
            threads[-1].start()
    else:
        when = started
        for index, gap in enumerate(gaps):
            threads.append(threading.Thread(target=ask, args=(index,), daemon=True))
            time.sleep(max(0.0, when - time.perf_counter()))
            threads[-1].start()
            when += gap
    for thread in threads:
        thread.join()
    run.seconds += time.perf_counter() - started
    run.answers += [answer for answer in answers if answer is not None]
