"""Time of a step with 1 to 16 rows, and of a prompt, against llama.cpp on the same file.

Both engines hold one sequence at the same context and take turns within each round, so that the
machine's moods hit both. Prints medians and the ratio llama.cpp / nextn, and writes
results/steps-NAME.json.

    python benchmarks/steps.py smollm2 --threads 2
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from llama_cpp_steps import LlamaCppSteps
from machine import write_result
from nextn.backends import BLOCK_TOKENS, Rows, create_executor
from nextn.files import open_checkpoint
from nextn.files.sources import resolve

ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
PROMPT = 512
PAUSE = 0.02  # seconds
REPEATS = 5  # timed calls per turn


class NextnSteps:
    """One sequence in nextn's executor."""

    def __init__(self, path: str, *, threads: int, context: int) -> None:
        self._blocks = -(-context // BLOCK_TOKENS)
        self._executor = create_executor(
            open_checkpoint(path),
            threads=threads,
            context_length=context,
            block_count=self._blocks,
        )
        self.vocab_size = self._executor.vocab_size

    def step(self, tokens: list[int], position: int, *, all_logits: bool = True) -> np.ndarray:
        """Decode `tokens` from `position` on."""
        count = len(tokens)
        wants = np.full(count, all_logits)
        wants[-1] = True
        return self._executor.step(
            Rows(
                np.asarray(tokens, np.int32),
                np.arange(position, position + count, dtype=np.int32),
                np.zeros(count, np.int32),
                wants,
                np.arange(self._blocks, dtype=np.int32)[None],
            )
        )


def turn(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall times of `repeats` calls, after a pause and one call that is not counted.

    The pause lets the other engine's idle threads stop spinning; both engines get it.
    """
    time.sleep(PAUSE)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    path = str(resolve(arguments.model).path)
    size = arguments.context + PROMPT + 64
    ours = NextnSteps(path, threads=arguments.threads, context=size)
    peer = LlamaCppSteps(path, threads=arguments.threads, context=size)
    tokens = np.random.default_rng(0).integers(300, ours.vocab_size - 300, size).tolist()
    for engine in (ours, peer):
        for start in range(0, arguments.context, PROMPT):
            engine.step(tokens[start : start + PROMPT][: arguments.context - start], start)

    times: dict[str, tuple[list[float], list[float]]] = {}
    for _ in range(arguments.rounds):
        for rows in ROWS:
            at = arguments.context
            chunk = tokens[at : at + rows]
            ours_times, peer_times = times.setdefault(str(rows), ([], []))
            ours_times += turn(lambda c=chunk, p=at: ours.step(c, p), REPEATS)
            peer_times += turn(lambda c=chunk, p=at: peer.step(c, p), REPEATS)
        ours_times, peer_times = times.setdefault(f"prompt {PROMPT}", ([], []))
        chunk = tokens[:PROMPT]
        ours_times += turn(lambda c=chunk: ours.step(c, 0, all_logits=False), 1)
        peer_times += turn(lambda c=chunk: peer.step(c, 0, all_logits=False), 1)

    print(f"{'rows':>12} {'nextn ms':>9} {'llama.cpp ms':>13} {'ratio':>6} {'t(n)/t(1)':>10}")
    base = statistics.median(times["1"][0])
    table = []
    for name, (ours_times, peer_times) in times.items():
        a, b = statistics.median(ours_times), statistics.median(peer_times)
        print(f"{name:>12} {a * 1e3:9.2f} {b * 1e3:13.2f} {b / a:6.2f} {a / base:10.2f}")
        table.append(
            {
                "rows": name,
                "nextn_ms": round(a * 1e3, 3),
                "nextn_min_ms": round(min(ours_times) * 1e3, 3),
                "llama_cpp_ms": round(b * 1e3, 3),
                "llama_cpp_min_ms": round(min(peer_times) * 1e3, 3),
                "ratio": round(b / a, 3),
            }
        )
    settings = {key: getattr(arguments, key) for key in ("model", "threads", "context", "rounds")}
    print(write_result(f"steps-{arguments.model}", {"settings": settings, "steps": table}))


if __name__ == "__main__":
    main()
