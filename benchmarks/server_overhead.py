"""What the server costs: one stream over HTTP against the Python API, in alternation.

Both sides are processes of their own with the same model, settings and seeds. A streamed answer is
read by a bare socket, which notes when its first and last tokens arrive. Prints the median of the
ratios of neighbouring pairs, and writes results/server-overhead-NAME.json.

    python benchmarks/server_overhead.py smollm2
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import socket
import statistics
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from machine import write_result

MESSAGES = [{"role": "user", "content": "Write a long story about a keeper of a lighthouse."}]
PAUSE = 0.05


def direct(pipe: Connection, model_name: str, threads: int | None) -> None:
    """Answer (seed, draft, tokens) with the seconds between the first token and the last."""
    import nextn

    with nextn.load(model_name, max_sequences=1, threads=threads) as model:
        pipe.send(None)
        while (asked := pipe.recv()) is not None:
            seed, draft, tokens = asked
            times = []
            with model.stream_chat(
                MESSAGES, seed=seed, draft=draft, max_tokens=tokens, ignore_end=True
            ) as stream:
                for _ in stream:
                    times.append(time.perf_counter())
            pipe.send(times[-1] - times[0])


def served(address: tuple[str, int], seed: int, draft: str, tokens: int) -> float:
    """Seconds between the first token and the last of a streamed answer."""
    body = json.dumps(
        {
            "messages": MESSAGES,
            "seed": seed,
            "mtp": draft,
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
    )
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    pieces: list[tuple[float, bytes]] = []
    with socket.create_connection(address) as connection:
        connection.sendall((head + body).encode())
        while piece := connection.recv(65536):
            pieces.append((time.perf_counter(), piece))
    # The first chunk has the role only.
    texts = [when for when, piece in pieces if re.search(rb'"content":"[^"]', piece)]
    if not any(b"[DONE]" in piece for _, piece in pieces):
        raise RuntimeError(b"".join(piece for _, piece in pieces).decode())
    return texts[-1] - texts[0]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    worker = spawn.Process(
        target=direct, args=(theirs, arguments.model, arguments.threads), daemon=True
    )
    worker.start()
    ours.recv()
    command = [sys.executable, "-m", "nextn", "serve", arguments.model, "--port", "0", "-np", "1"]
    if arguments.threads:
        command += ["-t", str(arguments.threads)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    port = next(int(m[1]) for line in server.stderr if (m := re.search(r"ready at .*:(\d+)", line)))
    result: dict[str, Any] = {}
    try:
        for draft in ("off", "auto"):
            pairs = []
            for turn in range(arguments.rounds + 1):
                asked = (turn, draft, arguments.tokens)
                seconds = {}
                for side in ("direct", "served") if turn % 2 else ("served", "direct"):
                    time.sleep(PAUSE)
                    if side == "direct":
                        ours.send(asked)
                        seconds[side] = ours.recv()
                    else:
                        seconds[side] = served(("127.0.0.1", port), *asked)
                if turn:
                    pairs.append(seconds)
            result[draft] = {
                "direct_tokens_per_second": round(
                    arguments.tokens / statistics.median(pair["direct"] for pair in pairs), 1
                ),
                "served_tokens_per_second": round(
                    arguments.tokens / statistics.median(pair["served"] for pair in pairs), 1
                ),
                "ratio": round(
                    statistics.median(pair["direct"] / pair["served"] for pair in pairs), 3
                ),
            }
            print(draft, result[draft])
    finally:
        ours.send(None)
        server.terminate()
        server.wait()
    name = f"server-overhead-{arguments.model}"
    print(write_result(name, {"tokens": arguments.tokens, **result}))


if __name__ == "__main__":
    main()
