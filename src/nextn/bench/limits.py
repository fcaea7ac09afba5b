"""What the machine allows at most: the roofline (Williams et al., 2009) of a step.

A step must read the weights and the cache once, and multiply every weight with every row. It cannot
be faster than the memory delivers and than the processor multiplies; the slower of the two is its
limit. What else a step does (the arithmetic of attention, norms, barriers) is left out, so that no
step can be faster than its limit, and good ones come near it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nextn.backends.base import CACHE_ELEMENT_BYTES
from nextn.files import Checkpoint
from nextn.plan import Attend, Linear, Logits, Plan

LARGEST_READ = 256 << 20
"""Bytes that no processor's cache holds, or next to none."""

_SMALLEST_READ = 8 << 20
_PASSES = 8
_VECTORS = 3_000_000  # some milliseconds


@dataclass(frozen=True, slots=True)
class Work:
    """What a step has to do at least.

    Attributes:
        bytes: weights, keys and values that it reads.
        products: multiplications of a weight and an activation.
    """

    bytes: float
    products: float

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.products + other.products)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the machine can do.

    Attributes:
        bandwidth: bytes per second that the threads read together.
        products: products of 8-bit integers per second, by all threads.
        threads: how many.
    """

    bandwidth: float
    products: float
    threads: int

    def seconds(self, work: Work) -> float:
        """The least time that some work takes."""
        return max(work.bytes / self.bandwidth, work.products / self.products)


@dataclass(frozen=True, slots=True)
class StepCosts:
    """What the steps of a model have to do, by its plan.

    Attributes:
        weights: bytes of the matrices that every step reads, as the file stores them.
        products: elements of these matrices, each multiplied once per row.
        output_weights: bytes of the output matrix, read if any row wants logits.
        output_products: its elements, each multiplied once per row that wants logits.
        attention: bytes of the keys and values of a position, and the window or None, of each
            layer.
    """

    weights: int
    products: int
    output_weights: int
    output_products: int
    attention: tuple[tuple[float, int | None], ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint, plan: Plan, *, cache_type: str = "f16") -> StepCosts:
        """Add up a plan.

        Args:
            checkpoint: knows how the weights are stored.
            plan: of this checkpoint.
            cache_type: how the keys and values are kept.
        """
        element_bytes = CACHE_ELEMENT_BYTES[cache_type]
        weights = [w for op in plan.operations if isinstance(op, Linear) for w in op.weights]
        outputs = [op.weight for op in plan.operations if isinstance(op, Logits)]
        return cls(
            weights=sum(checkpoint.tensors[weight.name].nbytes for weight in weights),
            products=sum(weight.rows * weight.columns for weight in weights),
            output_weights=sum(checkpoint.tensors[weight.name].nbytes for weight in outputs),
            output_products=sum(weight.rows * weight.columns for weight in outputs),
            attention=tuple(
                (2 * op.kv_heads * op.head_width * element_bytes, op.window)
                for op in plan.operations
                if isinstance(op, Attend)
            ),
        )

    def step(self, rows: int, depth: int, *, sequences: int = 1, logits: int) -> Work:
        """The work of one step.

        Args:
            rows: rows of each sequence.
            depth: positions of each sequence before them.
            sequences: sequences of the step.
            logits: rows of each sequence that want logits.
        """
        cached = sum(
            size * (depth + rows if window is None else min(depth + rows, window + rows - 1))
            for size, window in self.attention
        )
        return Work(
            self.weights + (self.output_weights if logits else 0) + sequences * cached,
            sequences * (rows * self.products + logits * self.output_products),
        )

    def prompt(self, tokens: int, depth: int, most_rows: int) -> Work:
        """The work of a prompt that is cut into steps; logits for its last token."""
        return _total(
            self.step(
                min(most_rows, tokens - start),
                depth + start,
                logits=int(start + most_rows >= tokens),
            )
            for start in range(0, tokens, most_rows)
        )

    def decode(self, tokens: int, depth: int, sequences: int) -> Work:
        """The work of decoding `tokens` tokens of each sequence."""
        return _total(self.step(1, depth + n, sequences=sequences, logits=1) for n in range(tokens))


def measure_limits(threads: int, *, kernels: str | None = None, size: int | None = None) -> Limits:
    """Measure the machine; takes less than a second.

    Args:
        threads: threads that read and multiply.
        kernels: one of `nextn._native.available_kernels()`; None takes the best.
        size: bytes of the weights. What is small may lie in the processor's cache, and is then
            compared with that.
    """
    size = LARGEST_READ if size is None else min(max(size, _SMALLEST_READ), LARGEST_READ)
    return Limits(read_bandwidth(threads, size, kernels), peak_products(threads, kernels), threads)


def read_bandwidth(threads: int, size: int, kernels: str | None = None) -> float:
    """Bytes per second that threads read together, each its part of a buffer, at best."""
    from nextn import _native

    # Ones, as untouched zeros may all be the same page of memory.
    data = np.ones(size, np.uint8)
    # Enough passes to meet one that nobody disturbed; the first one still fills the cache.
    passes = 1 + _PASSES * max(1, (LARGEST_READ // 4) // size)
    return size / min(_native.time_reads(data, threads, passes, _kernels(kernels))[1:])


def peak_products(threads: int, kernels: str | None = None) -> float:
    """Products of 8-bit integers per second, by all threads together, at best."""
    from nextn import _native

    best = min(_native.time_dots(_VECTORS, threads, _PASSES, _kernels(kernels)))
    return _VECTORS * _native.DOT_PRODUCTS * threads / best


def _kernels(name: str | None) -> str:
    from nextn import _native

    return name or _native.available_kernels()[0]


def _total(works: Iterable[Work]) -> Work:
    return sum(works, Work(0.0, 0.0))
