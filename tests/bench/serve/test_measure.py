from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from nextn.bench.mtp import DifferentTextError
from nextn.bench.serve import Answer, Client, Load, ServerError, Settings, measure
from nextn.errors import RequestError
from tests.support.chat_server import Script, running, scripted_app

STEPS = ((("One", "trunk"),), ((" two", "head"), (" three", "trunk")))
SETTINGS = Settings(concurrencies=(1, 3), requests=6, categories=("chat", "qa"), tokens=8)


@pytest.fixture
def script() -> Script:
    return Script(steps=STEPS)


@pytest.fixture
def client(script: Script) -> Iterator[Client]:
    with running(scripted_app(script)) as url:
        yield Client(url)


def _prompt(request: dict[str, Any]) -> tuple[str, str]:
    """The number in front of a prompt, and the rest."""
    number, _, rest = request["messages"][0]["content"].removeprefix("Request ").partition(".\n\n")
    return number, rest


def test_all_sides_get_the_same_prompts_in_turn(client: Client, script: Script) -> None:
    seen: list[tuple[int, int]] = []
    measured = measure(
        replace(SETTINGS, concurrencies=(1,)), client, progress=lambda *of: seen.append(of)
    )
    # One of each to warm up, and four texts that are compared.
    sent = script.requests[2 + 4 * 2 :]
    parts = [
        (draft, [_prompt(request) for request in part])
        for draft, part in groupby(sent, lambda request: request["mtp"])
    ]
    assert [draft for draft, _ in parts] == ["off", "auto", "off"]
    prompts = {"off": parts[0][1] + parts[2][1], "auto": parts[1][1]}
    assert len(prompts["off"]) == len(prompts["auto"]) == 6
    # So that each side writes the texts of the others.
    assert prompts["off"] == prompts["auto"]
    # Nobody finds another's prompt in the cache, which is not asked, and would not have it where
    # the server does not know this field: of the requests of a side, none begins like another.
    assert {request["cache_prompt"] for request in script.requests} == {False}
    numbers = [number for number, _ in prompts["off"]]
    assert len(set(numbers)) == 6
    assert {len(number) for number in numbers} == {6}
    assert [run.side for run in measured.runs] == ["mtp off", "mtp auto"]
    assert measured.compared == 4
    assert sorted(seen) == [(n, 12) for n in range(1, 13)]
    assert {request["max_tokens"] for request in sent} == {8}


def test_as_many_requests_are_in_flight_as_asked_for(client: Client, script: Script) -> None:
    script.hold = threading.Event()
    script.hold.set()
    runs = measure(SETTINGS, client).runs
    assert [(run.load, len(run.answers)) for run in runs] == [
        *((Load(concurrency=1), 6),) * 2,
        *((Load(concurrency=3), 18),) * 2,
    ]
    assert script.at_once[1] <= 3
    assert all(
        answer.tokens == 3 and answer.error is None for run in runs for answer in run.answers
    )
    for run in runs:
        # One after the other takes at least as long as all of them together.
        if run.load.concurrency == 1:
            assert sum(answer.e2e for answer in run.answers) <= run.seconds


def test_every_part_is_large_enough_for_its_load(client: Client) -> None:
    settings = replace(SETTINGS, concurrencies=(2, 5), requests=4, drafts=("auto",))
    seen: list[tuple[int, int]] = []
    runs = measure(settings, client, progress=lambda *of: seen.append(of)).runs
    assert [len(run.answers) for run in runs] == [12, 30]
    assert max(seen) == (42, 42)


def test_arrivals_are_no_sooner_than_the_gaps_say(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def gap(_: random.Random, rate: float) -> float:
        rates.append(rate)
        return 0.03

    monkeypatch.setattr(random.Random, "expovariate", gap)
    runs = measure(replace(SETTINGS, rates=(200.0,), rounds=1), client).runs
    assert [str(run.load) for run in runs] == ["200/s", "200/s"]
    assert rates == [200.0] * 6  # both sides have the same gaps
    for run in runs:
        assert run.seconds >= 5 * 0.03
        assert len(run.answers) == 6


def test_a_peer_is_asked_without_fields_that_are_nextns(client: Client) -> None:
    script = Script(steps=STEPS)
    with running(scripted_app(script)) as url:
        runs = measure(replace(SETTINGS, concurrencies=(2,)), client, Client(url)).runs
    assert [run.side for run in runs] == ["mtp off", "mtp auto", "peer"]
    # One to see that it answers, and the first of two rounds.
    assert len(script.requests) == 1 + 6
    assert len({_prompt(request)[0] for request in script.requests}) == 1 + 6
    assert all("mtp" not in request for request in script.requests)


def test_texts_that_depend_on_drafts_are_an_error(client: Client, script: Script) -> None:
    script.plain = ((("Else", "trunk"),),)
    with pytest.raises(DifferentTextError, match="with mtp auto is not that with mtp off"):
        measure(SETTINGS, client)


def test_a_server_that_refuses_everything_is_an_error(client: Client, script: Script) -> None:
    script.error = (400, "mtp: unknown field")
    with pytest.raises(ServerError, match="status 400: mtp: unknown field"):
        measure(SETTINGS, client)


def test_single_failures_are_kept(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = client.ask
    count = 0

    def fail_once(messages: Any, **fields: Any) -> Answer:
        nonlocal count
        count += 1
        return Answer(0.0, error="broken") if count == 12 else ask(messages, **fields)

    monkeypatch.setattr(client, "ask", fail_once)
    runs = measure(replace(SETTINGS, concurrencies=(1,)), client).runs
    assert [answer.error for run in runs for answer in run.answers].count("broken") == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"concurrencies": (0,)}, "--concurrency: 0 is not possible; allowed: 1 to 256"),
        ({"concurrencies": ()}, "--concurrency: none given"),
        ({"rates": (0.0,)}, "--rate: 0 is not possible"),
        ({"rates": (float("nan"),)}, "--rate: nan is not possible"),
        ({"requests": 0}, "--requests: 0 is not possible"),
        ({"rounds": 7}, "--rounds: 7 is not possible; allowed: 1 to 6"),
        ({"tokens": 1}, "-n: 1 is not possible"),
        ({"drafts": ()}, "--mtp: give different settings"),
        ({"drafts": ("off", "off")}, "--mtp: give different settings"),
        ({"drafts": (17,)}, "--mtp: 17 is not possible"),
        ({"limits": {"itl": 1.0}}, "--goodput: there is no 'itl'"),
        ({"limits": {"ttft": 0.0}}, "the limit of ttft must be above 0"),
        ({"categories": ("poems",)}, "there is no prompt category 'poems'"),
        ({"categories": ()}, "--categories: none given"),
        ({"temperature": -1.0}, "temperature"),
        ({"seed": -1}, "--seed: -1 is not possible"),
    ],
)
def test_impossible_settings_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        replace(SETTINGS, **changed).check()
    assert message in str(caught.value)


def test_prompts_of_the_categories_take_turns() -> None:
    prompts = replace(SETTINGS, categories=("chat", "qa")).load_prompts()
    assert [prompt.category for prompt in prompts[:4]] == ["chat", "qa", "chat", "qa"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_real_server_writes_the_same_texts_under_load(tmp_path: Path, temperature: float) -> None:
    from tests.server.conftest import RunningServer, spec
    from tests.support.tiny_gguf import TinyHead, write_tiny_model

    path = tmp_path / "tiny.gguf"
    write_tiny_model(path, "llama", layers=1, head=TinyHead(noise=0.0), context_length=2048)
    settings = Settings(
        concurrencies=(4,), requests=6, rounds=1, drafts=("off", "auto", 3), categories=("qa",),
        tokens=12, temperature=temperature, ignore_end=True,
    )  # fmt: skip
    with RunningServer([spec(path, context=2048)]) as server:
        measured = measure(settings, Client(server.url))
        found = server.get("/metrics").text
    assert measured.compared == 4
    assert [run.side for run in measured.runs] == ["mtp off", "mtp auto", "mtp 3"]
    assert {answer.tokens for run in measured.runs for answer in run.answers} == {12}
    (hits,) = re.findall(r"^vllm:prefix_cache_hits_total\S* (\S+)$", found, re.MULTILINE)
    assert float(hits) == 0
    texts = [[answer.text for answer in run.answers] for run in measured.runs]
    assert texts[0] == texts[1] == texts[2]
