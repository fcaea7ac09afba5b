from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nextn.errors import FileFormatError, SourceError
from nextn.tools.compare.logits_file import (
    LogitsFile,
    encode,
    file_bytes,
    new_logits_file,
    scored_positions,
)

LOGITS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 9)),
    elements=st.floats(-1000, 1000, width=32),
)


@given(LOGITS)
def test_a_code_is_within_half_a_step(logits: np.ndarray) -> None:
    coded = encode(logits)
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    shift = np.log(np.exp(exact).sum(axis=1, keepdims=True))
    raised = np.maximum(exact, -16.0) - shift
    # Half a step, and the rounding of float32.
    assert (np.abs(coded.decode() - raised) <= 16 / 65535 / 2 + 2e-4).all()
    best = coded.codes[np.arange(len(logits)), logits.argmax(axis=1)]
    assert (best == coded.codes.max(axis=1)).all()


def write(path: Path, *, vocabulary: int = 7, context: int = 8, chunks: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, vocabulary, (chunks, context), dtype=np.int32)
    scored = len(scored_positions(context))
    logits = rng.standard_normal((chunks * scored, vocabulary)).astype(np.float32)
    with new_logits_file(path, context, vocabulary, tokens) as writer:
        writer.write(encode(logits[:2]))
        writer.write(encode(logits[2:]))
    return logits


@pytest.mark.parametrize("vocabulary", [7, 8])
def test_what_is_written_is_read(tmp_path: Path, vocabulary: int) -> None:
    path = tmp_path / "base.kld"
    logits = write(path, vocabulary=vocabulary)
    assert path.stat().st_size == file_bytes(8, vocabulary, 3)
    file = LogitsFile(path)
    assert (file.context, file.vocabulary, file.tokens.shape) == (8, vocabulary, (3, 8))
    found = np.concatenate([file.read(chunk, 0, 3).decode() for chunk in range(3)])
    assert np.array_equal(found, encode(logits).decode())
    assert np.array_equal(file.read(1, 1, 2).codes, encode(logits[4:5]).codes)


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (0, b"_logitz_", "magic"),
        (8, b"\x00\x00\x00\x00", "context: is 0"),
        (8, b"\xff\xff\xff\xff", "context"),
        (12, b"\xff\xff\xff\xff", "vocabulary: is -1"),
        (16, b"\x00\x00\x00\x00", "chunks: is 0"),
        (16, b"\x04\x00\x00\x00", "incomplete"),
        (20, b"\x07\x00\x00\x00", "outside of the vocabulary"),
        (20, b"\xff\xff\xff\xff", "outside of the vocabulary"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, at: int, value: bytes, said: str) -> None:
    path = tmp_path / "base.kld"
    write(path)
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=said):
        LogitsFile(path)


def test_a_file_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.kld"
    write(path)
    whole = path.read_bytes()
    for length in (0, 10, 19, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            LogitsFile(path)
    with pytest.raises(SourceError):
        LogitsFile(tmp_path / "none.kld")


def test_scales_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.kld"
    write(path)
    data = bytearray(path.read_bytes())
    data[20 + 4 * 24 : 24 + 4 * 24] = np.float32(np.nan).tobytes()
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="damaged"):
        LogitsFile(path).read(0, 0, 1)


def test_a_full_disk_is_seen_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 900, 100))
    with pytest.raises(SourceError, match="are free"):
        write(tmp_path / "base.kld")
    assert not list(tmp_path.iterdir())
