"""Types of the native module, by the file in native/bindings that defines them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# native/bindings/sampling.cpp
def argmax(logits: NDArray[np.float32]) -> int: ...
def top_k(logits: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]: ...
def logsumexp(logits: NDArray[np.float32]) -> float: ...
def at_least(logits: NDArray[np.float32], threshold: float) -> NDArray[np.int32]: ...
def gumbel(seed: int, position: int, ids: NDArray[np.int32]) -> NDArray[np.float64]: ...
def gumbel_argmax(
    logits: NDArray[np.float32], temperature: float, seed: int, position: int
) -> int: ...
def choose(
    logits: NDArray[np.float32],
    position: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
) -> int: ...
def choose_draft(
    logits: NDArray[np.float32],
    token_ids: NDArray[np.int32] | None,
    position: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    seed: int,
) -> tuple[int, float]: ...

# native/bindings/module.cpp
def available_kernels() -> list[str]: ...

# native/bindings/formats.cpp
def decode_blocks(type_id: int, data: NDArray[np.uint8], out: NDArray[np.float32]) -> None: ...
def skip_strings(data: NDArray[np.uint8], count: int, most: int) -> tuple[int, int]:
    """How many of `count` strings, each behind its length (u64), are whole, and their bytes."""

def join_strings(data: NDArray[np.uint8], count: int) -> bytes:
    """Strings, each behind its length (u64), with a NUL between them instead."""

# native/bindings/quantise.cpp
def quantise_blocks(
    source_type_id: int,
    source: NDArray[np.uint8],
    type_id: int,
    columns: int,
    importance: NDArray[np.float32] | None,
    out: NDArray[np.uint8],
    threads: int,
    kernels: str,
    lattice: bool = False,
) -> int: ...
def count_q4_0_lattice_blocks(values: NDArray[np.float32]) -> int: ...

# native/bindings/roofline.cpp
def time_reads(data: NDArray[np.uint8], threads: int, passes: int, kernels: str) -> list[float]:
    """Seconds of each of some passes in which the threads together read `data` once."""

def time_dots(vectors: int, threads: int, passes: int, kernels: str) -> list[float]:
    """Seconds of each of some passes in which every thread multiplies `vectors` vectors."""

DOT_PRODUCTS: int
"""Products of a code and an activation in a vector."""

# native/bindings/executor.cpp; numbers refer to what the add_* methods returned, -1 to nothing
CACHE_BLOCK_TOKENS: int

class Executor:
    def __init__(
        self, threads: int, max_rows: int, block_count: int, kernels: str, cache_type: str
    ) -> None: ...
    def add_buffer(self, width: int) -> int: ...
    def add_matrix(
        self, type_id: int, rows: int, columns: int, data: NDArray[np.uint8], mapped: bool
    ) -> int:
        """Pack a matrix; if `data` is mapped from a file, its pages are given back on the way."""
    def add_vector(self, values: NDArray[np.float32]) -> int: ...
    def add_rotary(
        self, frequencies: NDArray[np.float64], interleaved: bool, magnitude: float
    ) -> int: ...
    def add_cache_layer(self, kv_heads: int, head_width: int) -> int: ...
    def embed(
        self,
        out: int,
        type_id: int,
        rows: int,
        columns: int,
        data: NDArray[np.uint8],
        scale: float,
    ) -> None: ...
    def norm(self, out: int, x: int, weight: int, epsilon: float, residual: int) -> None: ...
    def head_norm(self, out: int, x: int, weight: int, epsilon: float, heads: int) -> None: ...
    def rope(self, out: int, x: int, rotary: int, heads: int) -> None: ...
    def activate(self, out: int, gate: int, up: int, activation: int) -> None: ...
    def add(self, out: int, a: int, b: int) -> None: ...
    def linear(
        self,
        outs: list[int],
        x: int,
        matrices: list[int],
        scales: list[float],
        biases: list[int],
        norm_weight: int,
        epsilon: float,
        fine: bool,
        activation: int,
        residual: int,
    ) -> None: ...
    def attend(
        self,
        out: int,
        query: int,
        key: int,
        value: int,
        layer: int,
        heads: int,
        scale: float,
        window: int,
        query_norm: int,
        key_norm: int,
        epsilon: float,
        rotary: int,
    ) -> None: ...
    def logits(
        self, x: int, matrix: int, scale: float, norm_weight: int, epsilon: float
    ) -> None: ...
    def observe(self, x: int, norm_weight: int, epsilon: float) -> int: ...
    def read_observed(self, number: int, out: NDArray[np.float64]) -> int:
        """Copy the sums of squares that an observer has, and return of how many rows they are."""
    def concat(self, out: int, a: int, b: int) -> None: ...
    def add_hidden_layer(self, width: int) -> int: ...
    def store_hidden(self, x: int, layer: int, only_wanted: bool) -> None: ...
    def load_hidden(self, out: int, layer: int) -> None: ...
    def read_hidden(
        self, layer: int, blocks: NDArray[np.int32], out: NDArray[np.uint16]
    ) -> None: ...
    def begin_head(self, vocab_size: int, token_ids: NDArray[np.int32] | None) -> None:
        """All operations added from now on are those of the head."""
    def finish(self) -> None: ...
    def step(
        self,
        tokens: NDArray[np.int32],
        positions: NDArray[np.int32],
        slots: NDArray[np.int32],
        wants_logits: NDArray[np.bool_],
        block_tables: NDArray[np.int32],
        vocab_size: int,
    ) -> NDArray[np.float32]: ...
    def draft(
        self,
        tokens: NDArray[np.int32],
        positions: NDArray[np.int32],
        slots: NDArray[np.int32],
        wants_logits: NDArray[np.bool_],
        block_tables: NDArray[np.int32],
        vocab_size: int,
        depths: NDArray[np.int32],
        temperature: NDArray[np.float64],
        top_k: NDArray[np.int32],
        top_p: NDArray[np.float64],
        min_p: NDArray[np.float64],
        seeds: NDArray[np.uint64],
        least: NDArray[np.float64],
        chances: NDArray[np.float32],
        out_tokens: NDArray[np.int32],
        out_chances: NDArray[np.float32],
        out_probabilities: NDArray[np.float32],
        out_counts: NDArray[np.int32],
    ) -> None: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def cache_bytes(self) -> int: ...

class SuffixCounts:
    def __init__(
        self,
        class_of: Sequence[int],
        assumed: Sequence[float],
        engine: tuple[float, float],
        text: tuple[float, float],
    ) -> None: ...

class SuffixText:
    def __init__(self, counts: SuffixCounts, prompt: Sequence[int]) -> None: ...
    def append(self, tokens: Sequence[int]) -> None: ...
    def draft(
        self, limit: int, min_match: int, prefix: Sequence[int]
    ) -> tuple[list[int], list[float]]: ...
    @property
    def match_length(self) -> int: ...
    @property
    def source(self) -> int: ...
    @property
    def bytes(self) -> int: ...
