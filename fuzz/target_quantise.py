"""Fuzz target: an importance matrix for a model, or a model, and what quantising makes of them."""

from __future__ import annotations

import os
import tempfile
import zlib
from pathlib import Path

from fuzz.instrument import instrumented

with instrumented("nextn"):
    from nextn.errors import NextnError
    from nextn.files import I32, Checkpoint, open_checkpoint
    from nextn.files.block_formats import COPIED_TYPES
    from nextn.files.imatrix import read_imatrix, write_imatrix
    from nextn.tools.quantise import FILE_TYPES, QuantiseResult, Settings, quantise_file

from dataclasses import replace

import numpy as np

from fuzz.gguf_mutator import mutate
from fuzz.harness import WrongResultError, start
from fuzz.seeds import write_weighed_model

_FOLDER = Path(tempfile.mkdtemp(prefix="nextn-fuzz-"))
_MODEL = _FOLDER / "fixed" / "model.gguf"
_TYPES = list(FILE_TYPES)


def _check(result: QuantiseResult, source: Checkpoint, output: Path) -> None:
    """What was written must open, be what was planned, and hold nothing but finite numbers."""
    with open_checkpoint(output, to_copy=True) as made:
        if list(made.tensors) != list(source.tensors):
            raise WrongResultError("other tensors")
        for plan in result.plans:
            tensor, before = made.tensors[plan.name], source.tensors[plan.name]
            if (tensor.shape, tensor.block_type) != (before.shape, plan.target):
                raise WrongResultError("a tensor of another shape or format than planned")
            if not plan.changes:
                if tensor.data.tobytes() != before.data.tobytes():
                    raise WrongResultError("other bytes of a tensor that was copied")
            elif tensor.block_type != I32 and tensor.block_type.id not in COPIED_TYPES:
                tensor.check_finite()
                values, decoded = before.decode(), tensor.decode()
                most = float(np.abs(values).max(initial=0.0))
                if float(np.abs(decoded - values).max(initial=0.0)) > 1.5 * most:
                    raise WrongResultError("values that are nowhere near")


def _as_importance(path: Path, settings: Settings) -> None:
    matrix = read_imatrix(path)
    again = _FOLDER / "again.gguf"
    write_imatrix(replace(matrix, path=again))
    copied = read_imatrix(again)
    for name, entry in matrix.entries.items():
        same = copied.entries[name]
        if not np.array_equal(same.sums, entry.sums) or not np.array_equal(
            same.counts, entry.counts
        ):
            raise WrongResultError("an importance matrix that was written is another one")
    output = _FOLDER / "weighed.gguf"
    with open_checkpoint(_MODEL) as source:
        _check(quantise_file(_MODEL, output, settings, imatrix=path, threads=1), source, output)


def _as_model(path: Path, settings: Settings) -> None:
    with open_checkpoint(path, to_copy=True) as source:
        output = _FOLDER / "made.gguf"
        _check(quantise_file(path, output, settings, threads=1), source, output)


def test_one_input(content: bytes) -> None:
    """Read an input as both."""
    for path in _FOLDER.glob("*.gguf"):
        path.unlink()
    path = _FOLDER / "input.gguf"
    path.write_bytes(content)
    settings = Settings(_TYPES[zlib.crc32(content) % len(_TYPES)], allow_requantize=True)
    try:
        _as_importance(path, settings)
    except NextnError as error:
        if "general.type" not in str(error):
            raise
        _as_model(path, settings)


if __name__ == "__main__":
    os.fsync = lambda _descriptor: None
    _MODEL.parent.mkdir()
    write_weighed_model(_MODEL)
    start(test_one_input, mutate)
