"""Batches of texts: which texts go together, and which positions are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextn.train.shards import StoredText

_POOL = 64
"""Batches whose texts are sorted by length together; the more, the less padding."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of about the same length, padded to the longest.

    Row q of a text takes token q and predicts token q + 1, so the last token is no row.

    Attributes:
        tokens: int64 [texts, time]; zeros as padding.
        hidden: uint16 [texts, time, hidden], bfloat16 bits of the trunk's state at each row.
        rows: int64 [positions], which rows are trained on: text * time + position.
        chain_steps: int64 [positions], how many steps of a chain may end at each of them: a chain
            begins at a token that the trunk wrote.
        following: int64 [positions], the token that comes after each of them.
    """

    tokens: NDArray[np.int64]
    hidden: NDArray[np.uint16]
    rows: NDArray[np.int64]
    chain_steps: NDArray[np.int64]
    following: NDArray[np.int64]


def usable(text: StoredText, longest: int) -> bool:
    """Whether there is a position to train on."""
    return min(len(text.tokens), longest + 1) - 2 >= text.written_from


def make_batch(texts: Sequence[StoredText], longest: int) -> Batch:
    """Put texts together.

    Args:
        texts: usable ones.
        longest: rows of a text at most.
    """
    lengths = [min(len(text.tokens) - 1, longest) for text in texts]
    time = max(lengths)
    tokens = np.zeros((len(texts), time), np.int64)
    hidden = np.zeros((len(texts), time, texts[0].hidden.shape[1]), np.uint16)
    rows, chain_steps, following = [], [], []
    for number, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        tokens[number, :length] = text.tokens[:length]
        hidden[number, :length] = text.hidden[:length]
        at = np.arange(text.written_from, length)
        rows.append(number * time + at)
        chain_steps.append(at - text.written_from + 1)
        following.append(text.tokens[at + 1].astype(np.int64))
    return Batch(
        tokens,
        hidden,
        np.concatenate(rows),
        np.concatenate(chain_steps),
        np.concatenate(following),
    )


def plan_batches(
    lengths: NDArray[np.int64], batch_tokens: int, rng: np.random.Generator | None
) -> list[list[int]]:
    """Divide texts into batches of about the same length, in random order.

    Args:
        lengths: rows of each text.
        batch_tokens: most rows of a batch, padding included; a longer text is a batch of its own.
        rng: of the order; None keeps texts sorted by length.

    Returns:
        Numbers of the texts of each batch; each text is in one of them.
    """
    if rng is None:
        return _cut(np.argsort(-lengths, kind="stable"), lengths, batch_tokens)
    order = rng.permutation(len(lengths))
    pool = max(1, int(_POOL * batch_tokens / max(1.0, lengths.mean())))
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(-lengths[part], kind="stable")]
        cut = _cut(part, lengths, batch_tokens)
        batches += [cut[index] for index in rng.permutation(len(cut))]
    return batches


def _cut(
    order: NDArray[np.int64], lengths: NDArray[np.int64], batch_tokens: int
) -> list[list[int]]:
    """Cut a list that is sorted by falling length."""
    batches: list[list[int]] = []
    room = 0
    for text in order.tolist():
        if room == 0:
            batches.append([])
            room = max(1, batch_tokens // int(lengths[text]))
        batches[-1].append(text)
        room -= 1
    return batches
