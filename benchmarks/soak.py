"""A server under mixed load for a long time: nothing may crash, leak, stick or be cut off.

Workers do at random what clients do: chats and completions, streamed and whole, with and without
drafts and forms; leave in the middle; read slowly; send what is malformed or too large. A seeded
request is asked again and again and must have one answer. At the end every slot is free, and the
memory is compared with that after the first fifth of the time.

    python benchmarks/soak.py smollm2 --minutes 30
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

from machine import write_result

WORDS = ("lighthouse", "keeper", "wrote", "down", "every", "ship", "that", "came", "by", "night")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "old": {"type": "boolean"}},
    "required": ["name", "old"],
    "additionalProperties": False,
}
MALFORMED: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b'{"messages": 3}',
    b'{"prompt": "a", "temperature": "hot"}',
    b'{"prompt": "a", "n": 1000}',
    b'{"prompt": "' + b"a" * (9 << 20) + b'"}',
    b'{"prompt": "a", "json_schema": {"type": "nothing"}}',
    b"\xff\xfe",
    b'{"a":' * 5000,
]


class Soak:
    """The load on one server.

    Args:
        url: where it listens.
        seconds: how long.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.known: dict[int, str] = {}

    async def run(self, workers: int) -> None:
        """Let the workers work until the time is over."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self.url, timeout=600, limits=limits) as client:
            await asyncio.gather(*(self._work(client, number) for number in range(workers)))

    async def _work(self, client: httpx.AsyncClient, number: int) -> None:
        chance = random.Random(number)
        actions = [self._whole, self._stream, self._leave, self._malformed, self._seeded]
        actions += [self._form, self._slow]
        while time.monotonic() < self.end:
            action = chance.choices(actions, [4, 6, 4, 2, 2, 1, 1])[0]
            try:
                await action(client, chance)
                self.counts[action.__name__[1:]] += 1
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.problems.append(f"{action.__name__}: {type(error).__name__}: {error}")

    def _body(self, chance: random.Random) -> dict[str, Any]:
        words = " ".join(chance.choices(WORDS, k=chance.choice([3, 10, 60, 400])))
        return {
            "messages": [{"role": "user", "content": words}],
            "max_tokens": chance.choice([1, 10, 60, 150]),
            "temperature": chance.choice([0, 0.8, 1.2]),
            "mtp": chance.choice(["auto", "auto", "off", 4]),
            "priority": chance.choice([0, 0, 0, 1, -1]),
            "n": chance.choice([1, 1, 1, 3]),
            "top_logprobs": 2,
            "logprobs": True,
        }

    async def _whole(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        body = self._body(chance)
        answer = (await client.post("/v1/chat/completions", json=body)).json()
        for choice in answer["choices"]:
            if choice["finish_reason"] not in ("stop", "length"):
                self.problems.append(f"a whole answer has no end: {choice['finish_reason']}")

    async def _stream(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        await self._read(client, self._body(chance), pause=0.0)

    async def _slow(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        await self._read(client, self._body(chance), pause=0.05)

    async def _read(self, client: httpx.AsyncClient, body: dict[str, Any], pause: float) -> None:
        body["stream"] = True
        last, ends = "", 0
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                last = line or last
                ends += '"finish_reason":"' in line
                if pause:
                    await asyncio.sleep(pause)
        if last != "data: [DONE]" or ends != body["n"]:
            self.problems.append(f"a stream has {ends} ends of {body['n']}, and at last {last!r}")

    async def _leave(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        body = {**self._body(chance), "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            left = chance.randrange(6)
            async for _ in answer.aiter_raw():
                left -= 1
                if left < 0:
                    break

    async def _malformed(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        path = chance.choice(["/v1/completions", "/v1/chat/completions", "/tokenize"])
        answer = await client.post(path, content=chance.choice(MALFORMED))
        if answer.status_code not in (400, 413):
            self.problems.append(f"{path}: {answer.status_code} for a malformed request")

    async def _seeded(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        seed = chance.randrange(4)
        body = {"prompt": "Once upon a time", "seed": seed, "max_tokens": 40}
        body["mtp"] = chance.choice(["auto", "off", 3])
        answer = (await client.post("/v1/completions", json=body)).json()
        text = answer["choices"][0]["text"]
        if self.known.setdefault(seed, text) != text:
            self.problems.append(f"seed {seed} has two texts: {self.known[seed]!r}, {text!r}")

    async def _form(self, client: httpx.AsyncClient, chance: random.Random) -> None:
        body = {"prompt": "A ship: ", "json_schema": SCHEMA, "max_tokens": 200}
        answer = (await client.post("/v1/completions", json=body)).json()
        choice = answer["choices"][0]
        if choice["finish_reason"] == "stop":
            json.loads(choice["text"])


def resident(process: int) -> float:
    """Resident memory of a process in MB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1000  # type: ignore[index]


async def watch(process: int, samples: list[float], stop: asyncio.Event) -> None:
    """Note the memory of a process every second."""
    while not stop.is_set():
        samples.append(resident(process))
        await asyncio.sleep(1)


async def soak(url: str, process: int, minutes: float, workers: int) -> dict[str, Any]:
    """Run the load, and say what came of it."""
    load = Soak(url, minutes * 60)
    samples: list[float] = []
    stop = asyncio.Event()
    watching = asyncio.create_task(watch(process, samples, stop))
    await load.run(workers)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for _ in range(600):
            slots = (await client.get("/slots")).json()
            if not any(slot["is_processing"] for slot in slots):
                break
            await asyncio.sleep(0.1)
        else:
            load.problems.append("a slot is stuck")
    stop.set()
    await watching
    fifth = samples[len(samples) // 5 : len(samples) * 2 // 5] or samples
    last = samples[-len(samples) // 5 :]
    drift = sum(last) / len(last) / (sum(fifth) / len(fifth)) - 1
    return {
        "minutes": minutes,
        "workers": workers,
        "done": dict(load.counts),
        "memory_mb": round(samples[-1], 1),
        "memory_drift": round(drift, 4),
        "problems": load.problems[:20],
    }


def main() -> None:
    """Start the server, run the load, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=16)
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "nextn", "serve", arguments.model, "--port", "0", "-c", "2048"]
    with Path("soak.log").open("w") as log:
        server = subprocess.Popen([*command, "--log", "json"], stderr=log)
    try:
        url = ""
        while not url or httpx.get(url + "/health").status_code != 200:
            time.sleep(0.2)
            lines = [json.loads(line) for line in Path("soak.log").read_text().splitlines()]
            url = next((line["url"] for line in lines if "url" in line), "")
        run = soak(url, server.pid, arguments.minutes, arguments.workers)
        result = asyncio.run(run)
    finally:
        server.terminate()
        status = server.wait()
    tracebacks = Path("soak.log").read_text().count('"traceback"')
    result |= {"exit_status": status, "tracebacks": tracebacks}
    print(json.dumps(result, indent=2))
    print(write_result(f"soak-{arguments.model}", result))
    if result["problems"] or status or tracebacks or abs(result["memory_drift"]) > 0.03:
        sys.exit(1)


if __name__ == "__main__":
    main()
