"""Sends generated requests to a server with a tiny random model; none may be answered with a 500.

Two kinds in turn: requests that the served OpenAPI document allows, made by schemathesis, and the
same with a broken piece: a wrong type, a huge number, deep nesting, cut bytes. At the end every
slot must be free, and a plain request must give the text that it gave before.

    python fuzz/fuzz_server.py --requests 20000
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.tiny_gguf import write_tiny_model

PLAIN = {"prompt": "a", "seed": 1, "max_tokens": 20}
LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "n", "best_of")
SLOW_SECONDS = 20
STRANGE: list[Any] = [
    None, True, -1, 0, 1 << 31, 1 << 63, -(1 << 63), 1 << 70, 1e308, -1e308, 1e-308, 0.5, "",
    "\x00", "\ud800", "é" * 1000, "a" * 100_000, [], {}, [[]], [None], {"": None},
    json.loads("[" * 200 + "]" * 200), ["a"] * 1000, {"type": "object"}, {"$ref": "#"},
]  # fmt: skip


def tamed(body: Any) -> Any:
    """A body whose text is short; long texts take long, and show nothing more."""
    if isinstance(body, dict):
        for name in LIMITS:
            if isinstance(body.get(name), int):
                body[name] = max(-1, min(body[name], 3))
                if body[name] == -1:
                    body[name] = 1
        body.setdefault("max_tokens", 3)
        if isinstance(body.get("model"), str):
            # Any other name is a 404.
            body["model"] = "tiny"
    return body


def broken(body: Any, chance: random.Random) -> Any:
    """A body with one value somewhere in it replaced."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            places.append((value, key))
            if isinstance(item, dict | list):
                walk(item)

    if isinstance(body, dict | list):
        walk(body)
    if places:
        value, key = chance.choice(places)
        value[key] = chance.choice(STRANGE)
    return body


def encoded(body: Any, chance: random.Random) -> bytes:
    """The bytes of a body, sometimes cut or changed."""
    data = json.dumps(body, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.1 and data:
        cut = chance.randrange(len(data))
        data = data[:cut] if chance.random() < 0.5 else data[:cut] + b"\xff" + data[cut + 1 :]
    return data


def generated(document: dict[str, Any], count: int, seed: int) -> list[tuple[str, str, Any]]:
    """Methods, paths and bodies that the document allows."""
    schema = schemathesis.openapi.from_dict(document)
    strategies = [result.ok().as_strategy() for result in schema.get_all_operations()]
    found: list[tuple[str, str, Any]] = []

    @seeded(seed)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )
    @given(st.one_of(strategies))
    def collect(case: Any) -> None:
        body = case.body if isinstance(case.body, dict | list) else None
        found.append((case.method, case.formatted_path, body))

    collect()
    return found


def main() -> None:
    """Start, send, count, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_tiny_model(model, "llama")
        command = [sys.executable, "-m", "nextn", "serve", str(model), "--port", "0", "-t", "1"]
        process = subprocess.Popen(
            [*command, "-c", "128", "--log", "json"], stderr=subprocess.PIPE, text=True
        )
        log: list[dict[str, Any]] = []
        assert process.stderr is not None
        for line in process.stderr:
            log.append(json.loads(line))
            if "url" in log[-1]:
                break
        with ThreadPoolExecutor(1 + arguments.workers) as pool:
            reading = pool.submit(read_log, process, log)
            try:
                failures = attack(log[-1]["url"], arguments, chance, pool)
            finally:
                process.terminate()
                process.wait()
                reading.result()
    crashes = [record for record in log if "traceback" in record]
    for record in crashes[:5]:
        print(record["traceback"])
    if failures or crashes or process.returncode:
        sys.exit(f"{failures} failures, {len(crashes)} tracebacks, status {process.returncode}")


def read_log(process: subprocess.Popen[str], log: list[dict[str, Any]]) -> None:
    """Read the log to its end; what is no JSON counts as a traceback."""
    assert process.stderr is not None
    for line in process.stderr:
        try:
            log.append(json.loads(line))
        except ValueError:
            log.append({"traceback": line})


def attack(
    url: str, arguments: argparse.Namespace, chance: random.Random, pool: ThreadPoolExecutor
) -> int:
    """Send the requests; the number of answers that may not be."""
    client = httpx.Client(base_url=url, timeout=100)
    while client.get("/health").status_code != 200:
        time.sleep(0.1)
    before = client.post("/v1/completions", json=PLAIN).json()["choices"]
    document = client.get("/openapi.json").json()
    batch = min(arguments.requests, 1000)
    statuses: Counter[str] = Counter()
    failures = 0
    sent = 0

    def send(request: tuple[str, str, bytes | None]) -> tuple[Any, httpx.Response | None]:
        method, path, data = request
        started = time.monotonic()
        try:
            response = client.request(method, path, content=data)
            if time.monotonic() - started > SLOW_SECONDS:
                print(f"{time.monotonic() - started:.0f} s for", request, flush=True)
            return request, response
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return (request, error), None

    pool_of_cases = generated(document, batch, arguments.seed)
    while sent < arguments.requests:
        requests = []
        for _ in range(batch):
            method, path, body = chance.choice(pool_of_cases)
            body = tamed(json.loads(json.dumps(body)))
            if chance.random() < 0.7:
                body = broken(body, chance)
            requests.append((method, path, None if body is None else encoded(body, chance)))
        for request, response in pool.map(send, requests):
            sent += 1
            if response is None:
                statuses["not sent"] += 1
                continue
            statuses[f"{response.status_code}"] += 1
            if response.status_code >= 500:
                failures += 1
                print(request, response.status_code, response.text[:300])
        print(sent, dict(statuses), flush=True)
    while any(slot["is_processing"] for slot in client.get("/slots").json()):
        time.sleep(0.1)
    after = client.post("/v1/completions", json=PLAIN).json()["choices"]
    if before != after:
        failures += 1
        print("a plain request has another answer than before", before, after)
    return failures


if __name__ == "__main__":
    main()
