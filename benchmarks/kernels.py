"""Products with a matrix of each block format, by rows, beside what the machine allows.

A plan of one large product (8,192 outputs of 8,192 inputs by default, more than the last cache
holds in most formats) on random blocks. The floor is the longer of reading the matrix once at the
bandwidth of results/roofline.json and of multiplying at its peak; run roofline.py first, on the
same machine. Medians of alternating rounds over all formats. Writes results/kernels.json.

    python benchmarks/kernels.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from machine import RESULTS, write_result

sys.path.insert(0, str(Path(__file__).parent.parent))  # the tests can make random blocks

from tests.backends.synthetic import TYPE_BY_NAME, SyntheticCheckpoint

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.cpu import CpuExecutor
from nextn.plan import Tracer, Weight

ROWS = (1, 4, 8)
VOCABULARY = 64
SMALL = 32  # outputs that want logits, so that only the product counts
REPEATS = 5


class Product:
    """An executor whose step is one product with a matrix of a format."""

    def __init__(self, name: str, size: int, threads: int) -> None:
        step = Tracer()
        x = step.linear(step.embed(Weight("table", VOCABULARY, size)), Weight("matrix", size, size))
        step.logits(x, Weight("output", SMALL, size))
        plan = step.plan()
        checkpoint = SyntheticCheckpoint(plan, {"matrix": name})
        self.bytes = checkpoint.tensors["matrix"].data.nbytes
        self._executor = CpuExecutor(
            checkpoint,  # type: ignore[arg-type]
            plan,
            threads=threads,
            context_length=BLOCK_TOKENS,
            block_count=1,
            max_rows=max(ROWS),
        )

    def times(self, rows: int) -> list[float]:
        """Seconds of some steps, after one that is not counted."""
        batch = Rows(
            np.arange(rows, dtype=np.int32),
            np.arange(rows, dtype=np.int32),
            np.zeros(rows, np.int32),
            np.arange(rows) == rows - 1,
            np.zeros((1, 1), np.int32),
        )
        times = []
        for _ in range(REPEATS + 1):
            start = time.perf_counter()
            self._executor.step(batch)
            times.append(time.perf_counter() - start)
        return times[1:]


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    machine = json.loads((RESULTS / "roofline.json").read_text())["threads"][str(arguments.threads)]
    formats = [name for name, kind in TYPE_BY_NAME.items() if kind.elements > 1] + ["F16", "BF16"]
    products = {name: Product(name, arguments.size, arguments.threads) for name in formats}
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for name, product in products.items():
            for rows in ROWS:
                times.setdefault((name, rows), []).extend(product.times(rows))
    table = []
    for (name, rows), seconds in times.items():
        reading = products[name].bytes / machine["memory_bytes_per_second"]
        multiplying = arguments.size**2 * rows / machine["products_per_second"]
        median = statistics.median(seconds)
        table.append(
            {
                "format": name,
                "rows": rows,
                "median_ms": round(median * 1e3, 3),
                "min_ms": round(min(seconds) * 1e3, 3),
                "floor_ms": round(max(reading, multiplying) * 1e3, 3),
                "limit": "memory" if reading > multiplying else "products",
            }
        )
        row = table[-1]
        print(
            f"{name:8} {rows} rows {row['median_ms']:8.2f} ms, floor {row['floor_ms']:7.2f} ms "
            f"({row['limit']}), {row['floor_ms'] / row['median_ms']:.0%} of it reached"
        )
    print(write_result("kernels", {"settings": vars(arguments), "products": table}))


if __name__ == "__main__":
    main()
