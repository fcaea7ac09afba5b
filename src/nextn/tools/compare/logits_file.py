"""Log-probabilities on disk, in the format of llama.cpp's perplexity tool, so that files travel.

    "_logits_", u32 context, i32 vocabulary, i32 chunks, i32 tokens [chunks * context]
    for every scored position of every chunk: f32 scale, f32 lowest, u16 codes [vocabulary, even]

The log-probability of token t is lowest + scale * codes[t]. Those more than 16 below the logit of
the most probable token are raised to that. All numbers are little-endian.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, SourceError
from nextn.files.replacing import replacing

MAGIC = b"_logits_"
RANGE = 16.0
"""How far below the largest logit a logit counts."""

_HEADER = struct.Struct("<8sIii")
_LARGEST_CODE = 65535
_MOST_CONTEXT = 1 << 24
_MOST_VOCABULARY = 1 << 24
_ROWS_AT_A_TIME = 64


def scored_positions(context: int) -> range:
    """Positions of a chunk after which a token is predicted and scored: its second half."""
    return range(context // 2, context - 1)


@dataclass(frozen=True, slots=True)
class Coded:
    """Log-probabilities as the file holds them.

    Attributes:
        scale: float32 [rows].
        lowest: float32 [rows].
        codes: uint16 [rows, vocabulary].
    """

    scale: NDArray[np.float32]
    lowest: NDArray[np.float32]
    codes: NDArray[np.uint16]

    def decode(self) -> NDArray[np.float32]:
        """The log-probabilities: float32 [rows, vocabulary]."""
        return self.scale[:, None] * self.codes.astype(np.float32) + self.lowest[:, None]


def encode(logits: NDArray[np.float32]) -> Coded:
    """Compute log-probabilities, and round them to 16 bits.

    Args:
        logits: float32 [rows, vocabulary], finite.
    """
    most = logits.max(axis=1, keepdims=True)
    least = np.maximum(logits.min(axis=1, keepdims=True), most - np.float32(RANGE))
    sums = np.exp(logits - most).sum(axis=1, keepdims=True, dtype=np.float64)
    lowest = (least - most - np.log(sums).astype(np.float32)).astype(np.float32)
    scale = ((most - least) / np.float32(_LARGEST_CODE)).astype(np.float32)
    above = np.maximum(logits - least, 0)
    # Where all logits are the same there are no steps to count.
    codes = np.rint(np.divide(above, scale, out=np.zeros_like(above), where=scale > 0))
    clipped = np.minimum(codes, _LARGEST_CODE).astype(np.uint16)
    return Coded(scale[:, 0], lowest[:, 0], clipped)


def row_numbers(vocabulary: int) -> int:
    """16-bit numbers per scored position: the codes, one more if they are odd, and two floats."""
    return 2 * ((vocabulary + 1) // 2) + 4


def file_bytes(context: int, vocabulary: int, chunks: int) -> int:
    """Size of a whole file."""
    rows = chunks * len(scored_positions(context))
    return _HEADER.size + 4 * chunks * context + 2 * rows * row_numbers(vocabulary)


class LogitsWriter:
    """Writes the rows of a file whose header stands; made by `new_logits_file`."""

    def __init__(self, file: BinaryIO, vocabulary: int) -> None:
        self._file = file
        self._vocabulary = vocabulary

    def write(self, coded: Coded) -> None:
        """Append scored positions, in order.

        Raises:
            OSError: the disk is full, or the like.
        """
        rows = np.zeros((len(coded.scale), row_numbers(self._vocabulary)), "<u2")
        rows[:, :4] = np.stack((coded.scale, coded.lowest), axis=1).astype("<f4").view("<u2")
        rows[:, 4 : 4 + self._vocabulary] = coded.codes
        self._file.write(rows.data)


@contextmanager
def new_logits_file(
    path: Path, context: int, vocabulary: int, tokens: NDArray[np.int32]
) -> Iterator[LogitsWriter]:
    """Write a file; it has its name when the block ends without an error.

    Args:
        path: the file; an existing one is replaced.
        context: tokens of a chunk.
        vocabulary: tokens that there are.
        tokens: int32 [chunks, context], as the text was cut into them.

    Raises:
        SourceError: there is no such folder, or no room for the file.
        OSError: it cannot be written; nothing is left of it.
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise SourceError(f"{path}: there is no folder {folder}")
    size = file_bytes(context, vocabulary, len(tokens))
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SourceError(
            f"{path}: the log-probabilities take {size / 1e9:.2f} GB, but only {free / 1e9:.2f} GB "
            "are free; compare fewer chunks, or write to another disk"
        )
    with replacing(path) as file:
        file.write(_HEADER.pack(MAGIC, context, vocabulary, len(tokens)))
        file.write(np.ascontiguousarray(tokens, "<i4").data)
        yield LogitsWriter(file, vocabulary)


class LogitsFile:
    """An open file of log-probabilities; its rows are read when they are asked for.

    Args:
        path: the file.

    Attributes:
        path: the file.
        context: tokens of a chunk.
        vocabulary: tokens that there are.
        tokens: int32 [chunks, context].

    Raises:
        SourceError: it cannot be read.
        FileFormatError: it is none, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                header = file.read(_HEADER.size)
            size = path.stat().st_size
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
        if len(header) < _HEADER.size or not header.startswith(MAGIC):
            raise FileFormatError(path, "magic", f"expected {MAGIC!r}; these are no logits")
        _, self.context, self.vocabulary, chunks = _HEADER.unpack(header)
        for field, value, least, most in (
            ("context", self.context, 4, _MOST_CONTEXT),
            ("vocabulary", self.vocabulary, 1, _MOST_VOCABULARY),
            ("chunks", chunks, 1, size // 4),
        ):
            if not least <= value <= most:
                raise FileFormatError(path, field, f"is {value}, which is not possible")
        whole = file_bytes(self.context, self.vocabulary, chunks)
        if size != whole:
            raise FileFormatError(
                path, "size", f"is {size}, but the header asks for {whole}; it is incomplete"
            )
        count = chunks * self.context
        self.tokens = np.fromfile(path, "<i4", count, offset=_HEADER.size).astype(np.int32)
        if self.tokens.min() < 0 or self.tokens.max() >= self.vocabulary:
            raise FileFormatError(path, "tokens", "hold ids outside of the vocabulary")
        self.tokens = self.tokens.reshape(chunks, self.context)
        shape = (chunks, len(scored_positions(self.context)), row_numbers(self.vocabulary))
        self._rows = np.memmap(path, "<u2", "r", _HEADER.size + 4 * count, shape)

    def read(self, chunk: int, start: int, end: int) -> Coded:
        """Some scored positions of a chunk, counted from its first scored one.

        Raises:
            FileFormatError: numbers that are not finite.
        """
        rows = np.ascontiguousarray(self._rows[chunk, start:end])
        numbers = rows[:, :4].copy().view("<f4").astype(np.float32)
        if not np.isfinite(numbers).all() or (numbers[:, 0] < 0).any():
            raise FileFormatError(
                self.path, f"chunk {chunk}", "holds scales that are no numbers; it is damaged"
            )
        return Coded(numbers[:, 0], numbers[:, 1], rows[:, 4 : 4 + self.vocabulary])
