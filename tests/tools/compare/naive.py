"""Perplexity and divergences as loops over single tokens: slow, and easy to read."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from nextn.backends import BLOCK_TOKENS, Rows
from nextn.backends.reference import ReferenceExecutor
from nextn.files import open_checkpoint
from nextn.models import load_model_plan
from nextn.plan import fuse


def reference_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """Logits after every token, by the reference executor, computed at once."""
    checkpoint = open_checkpoint(path)
    blocks = -(-len(tokens) // BLOCK_TOKENS)
    executor = ReferenceExecutor(
        checkpoint,
        fuse(load_model_plan(checkpoint)),
        context_length=len(tokens),
        block_count=blocks,
        max_rows=len(tokens),
    )
    count = len(tokens)
    return executor.step(
        Rows(
            np.array(tokens, np.int32),
            np.arange(count, dtype=np.int32),
            np.zeros(count, np.int32),
            np.ones(count, np.bool_),
            np.arange(blocks, dtype=np.int32)[np.newaxis],
        )
    )


def log_probabilities(logits: np.ndarray) -> list[float]:
    most = float(max(logits))
    total = sum(math.exp(float(x) - most) for x in logits)
    return [float(x) - most - math.log(total) for x in logits]


def rounded(logits: np.ndarray) -> list[float]:
    """Log-probabilities as 65536 steps over the range of the logits, at most 16."""
    most = float(max(logits))
    least = max(float(min(logits)), most - 16)
    lowest = least - most - math.log(sum(math.exp(float(x) - most) for x in logits))
    step = (most - least) / 65535
    return [lowest + step * round(max(float(x) - least, 0) / step) for x in logits]


def mean_and_error(values: list[float]) -> tuple[float, float]:
    count = len(values)
    mean = sum(values) / count
    variance = sum(x * x for x in values) / count - mean * mean
    return mean, math.sqrt(max(variance, 0) / (count - 1))


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def write_logits_file(
    path: Path, context: int, chunks: list[list[int]], logits: list[np.ndarray]
) -> None:
    """A file of log-probabilities, byte by byte; logits [context, vocabulary] of each chunk."""
    vocabulary = logits[0].shape[1]
    parts = [b"_logits_", struct.pack("<Iii", context, vocabulary, len(chunks))]
    parts += [struct.pack("<i", token) for chunk in chunks for token in chunk]
    for chunk in logits:
        for row in chunk[context // 2 : context - 1]:
            most = float(max(row))
            least = max(float(min(row)), most - 16)
            total = float(np.exp(row.astype(np.float64) - most).sum())
            step = (most - least) / 65535
            parts.append(struct.pack("<ff", step, least - most - math.log(total)))
            codes = np.rint(np.maximum(row.astype(np.float64) - least, 0) / step)
            parts.append(codes.astype("<u2").tobytes() + bytes(2 * (vocabulary % 2)))
    path.write_bytes(b"".join(parts))
