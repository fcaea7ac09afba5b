"""Whatever is written is read back, by nextn and by the `gguf` package; a copy is the same file."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nextn.files import BLOCK_TYPES, open_checkpoint
from nextn.files.gguf import LazyStrings
from nextn.files.gguf.limits import DEFAULT_ALIGNMENT
from nextn.files.gguf.writer import (
    NewTensor,
    TensorBytes,
    TensorCopy,
    TensorPieces,
    part_paths,
    write_gguf,
)

NUMBERS = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "u8", "i8", "f8", "?"]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text("abcdefghij.ü_0123456789", min_size=1, max_size=20)


@st.composite
def numbers(draw: st.DrawFn, *, array: bool) -> Any:
    dtype = np.dtype(draw(st.sampled_from(NUMBERS)))
    elements = {"allow_nan": False} if dtype.kind == "f" else {}
    values = draw(arrays.arrays(dtype, st.integers(1, 5), elements=elements))
    return values if array else values[0]


values = st.one_of(
    texts,
    numbers(array=False),
    numbers(array=True),
    st.lists(texts, min_size=1, max_size=4),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(width=32, allow_nan=False),
)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[NewTensor, bytes]:
    kind = draw(st.sampled_from(list(BLOCK_TYPES.values())))
    shape = tuple(draw(st.lists(st.integers(1, 3), max_size=3)))
    shape = (*shape, kind.elements * draw(st.integers(1, 2)))
    size = math.prod(shape) // kind.elements * kind.bytes
    data = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, size, np.uint8)
    if draw(st.booleans()):
        return TensorBytes(shape, kind, data), data.tobytes()
    step = draw(st.integers(1, size))
    pieces = [data[start : start + step].tobytes() for start in range(0, size, step)]
    return TensorPieces(shape, kind, lambda: pieces), data.tobytes()


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(names, values, max_size=6),
    st.dictionaries(names, tensors(), min_size=1, max_size=5),
    st.sampled_from([None, 8, 32, 128]),
    st.integers(0, 3),
)
def test_what_is_written_is_read_back(
    metadata: dict[str, Any],
    contents: dict[str, tuple[NewTensor, bytes]],
    alignment: int | None,
    cuts: int,
) -> None:
    keys: dict[str, Any] = {"general.architecture": "llama", **metadata}
    if alignment is not None:
        keys["general.alignment"] = alignment
    parts = None
    if cuts:
        bounds = sorted({0, *(len(contents) * n // (cuts + 1) for n in range(cuts)), len(contents)})
        parts = np.diff(bounds).tolist()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        written = write_gguf(
            path, keys, {name: t for name, (t, _) in contents.items()}, parts=parts
        )
        assert written == ([path] if parts is None else part_paths(path, len(parts)))
        with open_checkpoint(written[0]) as found:
            for key, value in keys.items():
                assert same(found.metadata[key], value), key
            assert list(found.tensors) == list(contents)
            for name, (tensor, data) in contents.items():
                there = found.tensors[name]
                assert (there.shape, there.block_type) == (tensor.shape, tensor.block_type)
                assert there.data.tobytes() == data
                assert there.offset % (alignment or DEFAULT_ALIGNMENT) == 0
            copies = {name: TensorCopy.of(tensor) for name, tensor in found.tensors.items()}
            again = Path(folder) / "again.gguf"
            copied = write_gguf(again, found.encoded_metadata, copies, parts=parts)
        assert [one.read_bytes() for one in copied] == [one.read_bytes() for one in written]
        readers = [GGUFReader(one) for one in written]
        for key, value in keys.items():
            assert same(readers[0].fields[key].contents(), value), key
        read = {t.name: t for reader in readers for t in reader.tensors}
        for name, (tensor, data) in contents.items():
            assert read[name].shape.tolist() == list(reversed(tensor.shape))
            assert read[name].tensor_type == tensor.block_type.id
            assert read[name].data.tobytes() == data


def same(found: Any, expected: Any) -> bool:
    """Whether a value that was read is the one that was written, floats in their width."""
    if isinstance(found, LazyStrings):
        found = found.decode()
    if isinstance(expected, float) and not isinstance(expected, np.generic):
        expected = np.float32(expected)
    if isinstance(found, np.ndarray) and isinstance(expected, np.ndarray):
        return bool(found.dtype == expected.dtype and (found == expected).all())
    if isinstance(expected, np.ndarray):
        expected = expected.tolist()
    return bool(found == expected)
