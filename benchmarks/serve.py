"""Total tokens per second of a server with 1 to 16 concurrent chats, against another server.

Starts nextn's server and one of llama.cpp: `llama-server` if --llama-server names it, else that of
llama-cpp-python (`python -m llama_cpp.server`, which needs the packages of its extra "server"). All
sides get the same prompts, part by part in turn; see `nextn bench serve`, which does the work. The
server that is not asked waits idle. Prints the ratios to nextn without drafts and to the peer, and
writes results/serve-NAME.json.

    python benchmarks/serve.py smollm2
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from machine import write_result
from nextn.bench.serve import Client, Report, Settings, measure
from nextn.files.sources import resolve

PATIENCE = 120.0
CONTEXT = 2048


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, ready: str) -> Iterator[str]:
    """Run a server until the block ends; yields its address when it answers 200 at path `ready`."""
    url = f"http://127.0.0.1:{port}"
    with open(os.devnull, "wb") as nothing:
        process = subprocess.Popen(command, stdout=nothing, stderr=nothing)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(URLError, OSError):
                urlopen(url + ready, timeout=5).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"this server does not start: {' '.join(command)}")
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait()


def nextn_command(model: str, port: int, parallel: int, threads: int) -> list[str]:
    return [
        *(sys.executable, "-m", "nextn.cli", "serve", model, "--port", str(port)),
        *("--parallel", str(parallel), "-t", str(threads), "-c", str(CONTEXT)),
    ]


def peer_command(
    path: Path, port: int, parallel: int, arguments: argparse.Namespace
) -> list[str] | None:
    """How to start the peer; None if there is none."""
    threads = str(arguments.threads)
    if arguments.llama_server is not None:
        # Its context is that of all slots together.
        return [
            *(arguments.llama_server, "-m", str(path), "--port", str(port), "-t", threads),
            *("-np", str(parallel), "-c", str(parallel * CONTEXT), "--no-webui"),
        ]
    known = subprocess.run(
        [arguments.peer_python, "-c", "import llama_cpp.server.app"], capture_output=True, text=True
    )
    if known.returncode != 0:
        reason = known.stderr.strip().rpartition("\n")[2]
        print(f"llama-cpp-python's server cannot be imported ({reason}); going on without a peer")
        return None
    # It answers one chat at a time; by default a new one even ends the one before.
    return [
        *(arguments.peer_python, "-m", "llama_cpp.server", "--model", str(path)),
        *("--port", str(port), "--n_threads", threads, "--n_threads_batch", threads),
        *("--n_ctx", str(CONTEXT), "--interrupt_requests", "False", "--verbose", "False"),
    ]


def print_ratios(report: Report) -> None:
    """One line per load."""
    for load, summaries in report.summaries.items():
        rates = {one.run.side: one.tokens_per_second for one in summaries}
        drafted = rates["mtp auto"]
        line = f"{load:>3} at a time: {drafted:6.1f} tokens/s"
        line += f", {drafted / rates['mtp off']:.2f} x without drafts"
        if rates.get("peer"):
            line += f", {drafted / rates['peer']:.2f} x the peer ({rates['peer']:.1f})"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--requests", type=int, default=32, help="of each load and side")
    parser.add_argument("--rounds", type=int, default=4, help="parts in which they are sent")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--categories", nargs="+", default=["chat"])
    parser.add_argument("--temp", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--llama-server", help="path of llama-server, as the peer")
    parser.add_argument("--peer-python", default=sys.executable, help="that has llama_cpp.server")
    arguments = parser.parse_args()
    settings = Settings(
        concurrencies=tuple(arguments.concurrency),
        requests=arguments.requests,
        rounds=arguments.rounds,
        categories=tuple(arguments.categories),
        tokens=arguments.tokens,
        temperature=arguments.temp,
    )
    settings.check()
    source = resolve(arguments.model)
    parallel = max(settings.concurrencies)
    port, other = free_port(), free_port()
    command = peer_command(source.path, other, parallel, arguments)
    with contextlib.ExitStack() as servers:
        url = servers.enter_context(
            running(
                nextn_command(arguments.model, port, parallel, arguments.threads), port, "/health"
            )
        )
        peer = None
        if command is not None:
            # The server of llama-cpp-python listens once its model is loaded, and has no /health.
            ready = "/health" if arguments.llama_server is not None else "/v1/models"
            peer = Client(servers.enter_context(running(command, other, ready)))
        client = Client(url)
        measured = measure(
            settings,
            client,
            peer,
            lambda done, total: print(f"\r{done} of {total} answers", end="", file=sys.stderr),
        )
    print(file=sys.stderr)
    report = Report(client.model, client.url, peer and peer.url, settings, measured)
    print(report.as_text(), end="\n\n")
    print_ratios(report)
    record = report.as_record() | {"threads": arguments.threads}
    # Its options, without the paths of this machine.
    record["peer_command"] = command and [Path(part).name for part in command]
    print(f"wrote {write_result(f'serve-{source.name}', record)}")


if __name__ == "__main__":
    main()
