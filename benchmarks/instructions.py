"""Instructions that each kernel executes, counted one by one.

A child process runs a step with one thread while its parent lets it go instruction by instruction
(ptrace, Linux). The counts of two sizes are subtracted, so that what does not belong to the kernel
(Python, the other operations) falls away. Works with every instruction set, unlike simulators; a
count is the same on every run. Writes results/instructions.json.

    python benchmarks/instructions.py
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import signal
import traceback
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from kernel_plans import (
    FORMATS,
    HEADS,
    ROW_OPERATIONS,
    Kernel,
    attention,
    product,
    row_operation,
)
from machine import write_result
from nextn.backends.base import BLOCK_TOKENS, CACHE_TYPES

ROWS = (1, 4, 8)
INPUTS = 512
TILE = 16  # outputs
COLUMNS = 32  # of a block
POSITIONS = 128
_TRACE_ME, _SINGLE_STEP = 0, 9

_trace = ctypes.CDLL(None, use_errno=True).ptrace
_trace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_trace.restype = ctypes.c_long


def count(make: Callable[[], Kernel], *steps: tuple[int, int]) -> list[int]:
    """Instructions of steps, those of the interpreter included.

    Args:
        make: the kernel; made in the child process, as an executor does not outlive a fork.
        steps: rows and position of each.

    Raises:
        OSError: the system does not let a process trace its child.
        RuntimeError: a step failed.
    """
    child = os.fork()
    if child == 0:
        _run_traced(make, steps)
    _, state = os.waitpid(child, 0)
    counts = []
    for _ in steps:
        instructions = 0
        while os.WIFSTOPPED(state):
            if _trace(_SINGLE_STEP, child, None, None) != 0:
                raise OSError(ctypes.get_errno(), "cannot step the child process")
            _, state = os.waitpid(child, 0)
            if os.WIFSTOPPED(state) and os.WSTOPSIG(state) == signal.SIGSTOP:
                break
            instructions += 1
        counts.append(instructions)
    if not os.WIFSTOPPED(state):
        raise RuntimeError("the child process ended too soon; see above")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return counts


def _run_traced(make: Callable[[], Kernel], steps: tuple[tuple[int, int], ...]) -> NoReturn:
    """The child: stops before and after each step."""
    try:
        kernel = make()
        for step in steps:
            kernel.step(*step)  # the first time may allocate
        gc.disable()
        if _trace(_TRACE_ME, 0, None, None) != 0:
            raise OSError(ctypes.get_errno(), "this system does not let a process be traced")
        os.kill(os.getpid(), signal.SIGSTOP)
        for step in steps:
            kernel.step(*step)
            os.kill(os.getpid(), signal.SIGSTOP)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def products() -> list[dict[str, object]]:
    """Per block of 32 columns of 16 outputs."""
    table = []
    for name in FORMATS:
        few, many = (
            count(
                partial(Kernel, product(tiles * TILE, INPUTS), {"matrix": name}),
                *((rows, 0) for rows in ROWS),
            )
            for tiles in (2, 4)
        )
        blocks = 2 * INPUTS // COLUMNS
        for rows, less, more in zip(ROWS, few, many, strict=True):
            table.append(_row("products", name, rows, (more - less) / blocks))
    return table


def attentions() -> list[dict[str, object]]:
    """Per key head and block of 32 positions."""
    table = []
    for model, (heads, kv_heads, width) in HEADS.items():
        for cache_type in CACHE_TYPES:
            near, far = (
                count(
                    partial(
                        Kernel,
                        attention(heads, kv_heads, width, 1),
                        positions=2 * POSITIONS + max(ROWS),
                        cache_type=cache_type,
                    ),
                    *((rows, position) for rows in ROWS),
                )
                for position in (POSITIONS, 2 * POSITIONS)
            )
            blocks = kv_heads * POSITIONS // BLOCK_TOKENS
            for rows, less, more in zip(ROWS, near, far, strict=True):
                name = f"{model}, {cache_type}"
                table.append(_row("attention", name, rows, (more - less) / blocks))
    return table


def row_operations() -> list[dict[str, object]]:
    """Per 16 elements of a row."""
    table = []
    for name in ROW_OPERATIONS:
        few, many = (
            count(partial(Kernel, row_operation(name, INPUTS, repeats)), (1, 0))[0]
            for repeats in (1, 3)
        )
        table.append(_row("rows", name, 1, (many - few) / (2 * INPUTS / TILE)))
    return table


def _row(family: str, kernel: str, rows: int, instructions: float) -> dict[str, object]:
    print(f"{family:10} {kernel:20} {rows} rows: {instructions:8.1f} instructions", flush=True)
    return {
        "family": family,
        "kernel": kernel,
        "rows": rows,
        "instructions": round(instructions, 1),
    }


def main() -> None:
    """Count, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    table = products() + attentions() + row_operations()
    print(write_result("instructions", {"settings": {}, "kernels": table}))


if __name__ == "__main__":
    main()
