"""Each kernel family beside what the machine allows.

Products: one large matrix (8,192 outputs of 8,192 inputs by default, more than the last cache holds
in most formats) of every block format, by rows; the floor is the longer of reading it once from
memory and of multiplying at the processor's peak. Attention: layers over 4,096 positions, more than
the last cache holds; the floor is reading keys and values once. Operations on rows: a chunk of a
prompt; the floor is reading and writing it in the last cache.

The machine's limits come from results/roofline.json; run roofline.py first, on the same machine.
Medians of alternating rounds over all cases. Writes results/kernels.json.

    python benchmarks/kernels.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kernel_plans import (
    FORMATS,
    HEADS,
    ROW_OPERATIONS,
    Kernel,
    attention,
    product,
    row_operation,
)
from machine import RESULTS, write_result
from nextn.backends.base import CACHE_ELEMENT_BYTES

ROWS = (1, 4, 8)
DEPTH = 4096
CACHE_BYTES = 96_000_000
CHUNK = 512
WIDTH = 1024
OPERATIONS = 32  # in a row
REPEATS = 5


@dataclass
class Case:
    """What is timed.

    Attributes:
        family: products, attention or rows.
        name: which kernel of it.
        rows: of a step.
        kernel: runs it.
        position: of the first row.
        floor: seconds that the machine needs at least.
        limit: what the floor comes from.
        parts: equal parts of a step, of which one is reported.
    """

    family: str
    name: str
    rows: int
    kernel: Kernel
    position: int
    floor: float
    limit: str
    parts: int = 1

    def times(self) -> list[float]:
        """Seconds of some steps, after one that is not counted."""
        times = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            self.kernel.step(self.rows, self.position)
            times.append((time.perf_counter() - start) / self.parts)
        return times[1:]


def product_cases(size: int, threads: int, machine: dict[str, float]) -> Iterator[Case]:
    """One product per format."""
    for name in FORMATS:
        kernel = Kernel(product(size, size), {"matrix": name}, threads)
        read = kernel.checkpoint.tensors["matrix"].data.nbytes / machine["memory_bytes_per_second"]
        for rows in ROWS:
            multiply = size**2 * rows / machine["products_per_second"]
            limit = "memory" if read > multiply else "products"
            yield Case("products", name, rows, kernel, 0, max(read, multiply), limit)


def attention_cases(threads: int, machine: dict[str, float]) -> Iterator[Case]:
    """Several shapes of heads, and both types of cache."""
    for model, (heads, kv_heads, width) in HEADS.items():
        for cache_type, element_bytes in CACHE_ELEMENT_BYTES.items():
            layer = int(2 * kv_heads * width * element_bytes * DEPTH)
            layers = -(-CACHE_BYTES // layer)
            kernel = Kernel(
                attention(heads, kv_heads, width, layers),
                threads=threads,
                positions=DEPTH + max(ROWS),
                rows=CHUNK,
                cache_type=cache_type,
            )
            kernel.fill(DEPTH)
            floor = layer / machine["memory_bytes_per_second"]
            for rows in ROWS:
                name = f"{model}, {cache_type}"
                yield Case("attention", name, rows, kernel, DEPTH, floor, "memory", layers)


def row_cases(threads: int, machine: dict[str, float]) -> Iterator[Case]:
    """Operations that work on each row by itself."""
    floor = 2 * 4 * CHUNK * WIDTH / machine["cache_bytes_per_second"]
    for name in ROW_OPERATIONS:
        kernel = Kernel(
            row_operation(name, WIDTH, OPERATIONS), threads=threads, positions=CHUNK, rows=CHUNK
        )
        yield Case("rows", name, CHUNK, kernel, 0, floor, "last cache", OPERATIONS)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    machine = json.loads((RESULTS / "roofline.json").read_text())["threads"][str(arguments.threads)]
    cases = [
        *product_cases(arguments.size, arguments.threads, machine),
        *attention_cases(arguments.threads, machine),
        *row_cases(arguments.threads, machine),
    ]
    times: list[list[float]] = [[] for _ in cases]
    for _ in range(arguments.rounds):
        for case, seconds in zip(cases, times, strict=True):
            seconds += case.times()
    table: list[dict[str, Any]] = []
    for case, seconds in zip(cases, times, strict=True):
        median = statistics.median(seconds)
        table.append(
            {
                "family": case.family,
                "kernel": case.name,
                "rows": case.rows,
                "median_ms": round(median * 1e3, 4),
                "min_ms": round(min(seconds) * 1e3, 4),
                "floor_ms": round(case.floor * 1e3, 4),
                "limit": case.limit,
            }
        )
        print(
            f"{case.family:10} {case.name:20} {case.rows:3} rows {median * 1e3:8.3f} ms, floor "
            f"{case.floor * 1e3:7.3f} ms ({case.limit}), {case.floor / median:.0%} of it reached"
        )
    print(write_result("kernels", {"settings": vars(arguments), "kernels": table}))


if __name__ == "__main__":
    main()
