"""What this machine can do at most: how fast it reads, and how fast it multiplies 8-bit integers.

The bandwidth of memory is that of a buffer of 256 MiB, which no cache holds; that of the last cache
is the best of 8, 12 and 16 MiB. Each thread reads its own part. The peak of products is that of the
dot products that the kernels use, on data in registers. Best passes of several; with these figures
report.py says how far each step is from its limit. Writes results/roofline.json.

    python benchmarks/roofline.py
"""

from __future__ import annotations

import argparse
import os
import time

from machine import write_result
from nextn import _native
from nextn.bench.limits import LARGEST_READ, peak_products, read_bandwidth

CACHED = (8 << 20, 12 << 20, 16 << 20)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5, help="the best one counts")
    arguments = parser.parse_args()
    kernels = _native.available_kernels()[0]
    figures = {}
    for threads in (count for count in arguments.threads if count <= (os.cpu_count() or 1)):
        memory, cache, products = [], [], []
        for _ in range(arguments.rounds):
            memory.append(read_bandwidth(threads, LARGEST_READ))
            cache += [read_bandwidth(threads, size) for size in CACHED]
            products.append(peak_products(threads))
            time.sleep(0.1)
        figures[str(threads)] = {
            "memory_bytes_per_second": round(max(memory)),
            "cache_bytes_per_second": round(max(cache)),
            "products_per_second": round(max(products)),
        }
        print(
            f"{threads} thread{'' if threads == 1 else 's'} ({kernels}): memory "
            f"{max(memory) / 1e9:.1f} GB/s, last cache {max(cache) / 1e9:.1f} GB/s, "
            f"{max(products) / 1e9:.0f} billion products/s",
            flush=True,
        )
    print(write_result("roofline", {"settings": {"kernels": kernels}, "threads": figures}))


if __name__ == "__main__":
    main()
