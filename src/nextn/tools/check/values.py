"""What the numbers in a head look like: damaged, empty, shifted, out of scale, or crushed.

Tensors are read a few rows at a time, so that a head of any size needs little memory. Of the trunk,
with which the head's matrices and norms are compared, a sample is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nextn.files import I32, Checkpoint, Tensor
from nextn.files.block_formats import BLOCK_TYPES, decode
from nextn.models.head_tensors import place_of
from nextn.tools.check.findings import Finding, doubt, fault, note
from nextn.tools.check.layout import HeadLayout

_ELEMENTS_AT_A_TIME = 1 << 20
_TRUNK_BLOCKS = 4  # of which matrices are sampled
_TRUNK_ROWS = 128  # of each of them
_LEAST_BITS = 4.0  # per weight; below, heads are known to stop working
_GOOD_BITS = 8.0
_MOST_SCALE = 4.0  # times as large as in the trunk, or as small
_MANY_NEGATIVE = 0.25  # of the weights of a norm
_SHIFT_SEEN = 0.5  # how far a norm's mean must lie outside of the trunk's
_SHIFT_LEFT = 0.25  # and how near it must come when the shift is undone
_MANY_ZERO_ROWS = 0.05

Progress = Callable[[int, int], None]
"""Told how many bytes were read, and how many there are."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What one tensor of a head is.

    Attributes:
        name: in the file.
        shape: rows first.
        format: block format.
        bytes: in the file.
        bits: in the file per weight.
        known: whether nextn knows how to read the numbers; if not, nothing below is known.
        finite: whether all values are.
        least: smallest value; this and the following are 0 for integers, and NaN if not finite.
        most: largest value.
        mean: of all values.
        rms: root of the mean square.
        zero_rows: share of the rows that hold only zeros.
        negative: share of the values below zero.
        halves: rms of the left and of the right half of the columns.
    """

    name: str
    shape: tuple[int, ...]
    format: str
    bytes: int
    bits: float
    known: bool = True
    finite: bool = True
    least: float = 0.0
    most: float = 0.0
    mean: float = 0.0
    rms: float = 0.0
    zero_rows: float = 0.0
    negative: float = 0.0
    halves: tuple[float, float] = (0.0, 0.0)

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix, or a stack of them, of weights."""
        return len(self.shape) > 1 and self.format != I32.name

    @property
    def is_norm(self) -> bool:
        """Whether it is the weight of a norm."""
        return len(self.shape) == 1 and self.name.endswith("norm.weight")


def tensor_facts(tensor: Tensor, report: Callable[[int], None] = lambda _: None) -> TensorFacts:
    """Read a tensor, and describe its values.

    Args:
        tensor: of a head.
        report: told how many bytes were read, each time.
    """
    elements = math.prod(tensor.shape)
    name, shape, kind = tensor.name, tensor.shape, tensor.block_type
    bits = tensor.nbytes * 8 / elements
    if kind.id not in BLOCK_TYPES:
        report(tensor.nbytes)
        return TensorFacts(name, shape, kind.name, tensor.nbytes, bits, known=kind == I32)
    width = shape[-1]
    rows = tensor.data.reshape(elements // width, -1)
    step = max(1, _ELEMENTS_AT_A_TIME // width)
    least, most, total, zero_rows, negative = math.inf, -math.inf, 0.0, 0, 0
    squares = np.zeros(2)
    for start in range(0, len(rows), step):
        with np.errstate(all="ignore"):  # what is not finite is found below
            values = decode(kind, rows[start : start + step])
        report(rows[start : start + step].nbytes)
        if not np.isfinite(values).all():
            nan = math.nan
            return TensorFacts(
                *(name, shape, kind.name, tensor.nbytes, bits, True, False),
                *(nan, nan, nan, nan),
            )
        least, most = min(least, float(values.min())), max(most, float(values.max()))
        total += float(values.sum(dtype=np.float64))
        zero_rows += int((~values.any(axis=1)).sum())
        negative += int((values < 0).sum())
        middle = width // 2
        for half, part in enumerate((values[:, :middle], values[:, middle:])):
            squares[half] += float(np.square(part, dtype=np.float64).sum())
    counts = np.maximum([len(rows) * (width // 2), len(rows) * (width - width // 2)], 1)
    left, right = np.sqrt(squares / counts).tolist()
    return TensorFacts(
        *(name, shape, kind.name, tensor.nbytes, bits, True, True, least, most, total / elements),
        rms=math.sqrt(squares.sum() / elements),
        zero_rows=zero_rows / len(rows),
        negative=negative / elements,
        halves=(left, right),
    )


def read_facts(
    head: Checkpoint, layout: HeadLayout, progress: Progress | None = None
) -> list[TensorFacts]:
    """Read all tensors of a head.

    Args:
        head: the file.
        layout: where in it the head is.
        progress: told about the bytes.
    """
    total = sum(head.tensors[name].nbytes for name in layout.tensors)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return [tensor_facts(head.tensors[name], report) for name in layout.tensors]


def check_values(
    trunk: Checkpoint, head: Checkpoint, layout: HeadLayout, facts: Sequence[TensorFacts]
) -> Iterator[Finding]:
    """Judge the numbers."""
    for one in facts:
        yield from _check_one(one)
    yield from _check_precision(facts)
    yield from _check_missing_scales(trunk, head, facts)
    if all(one.finite for one in facts):
        sample = _TrunkSample(trunk, layout.expected)
        yield from _check_norms(facts, sample)
        yield from _check_scales(facts, sample)


def _check_one(one: TensorFacts) -> Iterator[Finding]:
    weights = one.is_matrix or one.is_norm
    if not one.known:
        text = f"is in {one.format}, which nextn does not read; its numbers were not checked"
        yield note("not-read", one.name, text)
        return
    if not one.finite:
        yield fault("not-finite", one.name, "holds NaN or infinity; the file is damaged")
    elif weights and not one.least and not one.most:
        yield fault("zero", one.name, "holds only zeros; the head computes nothing with it")
    elif one.is_matrix and one.least == one.most:
        yield fault("constant", one.name, f"holds only the number {one.least:g}")
    elif one.is_norm and one.least == one.most:
        text = f"holds only the number {one.least:g}"
        if one.least == 1:
            yield note("constant", one.name, f"{text}, as before any training")
        else:
            yield fault("constant", one.name, text)
    elif one.is_matrix and one.zero_rows > _MANY_ZERO_ROWS:
        yield doubt("zero-rows", one.name, f"{one.zero_rows:.0%} of its rows hold only zeros")
    if one.finite and one.name.endswith("eh_proj.weight") and one.least < one.most:
        names = ("embedding", "hidden state")
        for half, name in zip(one.halves, names, strict=True):
            if not half:
                yield fault(
                    "half-zero", one.name, f"its half for the {name} holds only zeros: it is unused"
                )


def _check_precision(facts: Sequence[TensorFacts]) -> Iterator[Finding]:
    matrices = [one for one in facts if one.is_matrix]
    crushed = [one for one in matrices if one.bits < _LEAST_BITS]
    coarse = [one for one in matrices if _LEAST_BITS <= one.bits < _GOOD_BITS]
    if crushed:
        yield doubt(
            "precision",
            crushed[0].name,
            f"{len(crushed)} matrices have less than {_LEAST_BITS:.0f} bits per weight "
            f"({_formats(crushed)}); heads are known to stop working there: quantise the model "
            "again, with its head at Q8_0",
        )
    elif coarse:
        yield note(
            "precision",
            coarse[0].name,
            f"{len(coarse)} matrices are in {_formats(coarse)}; Q8_0 costs little more",
        )


def _formats(facts: Sequence[TensorFacts]) -> str:
    return ", ".join(dict.fromkeys(one.format for one in facts))


def _check_missing_scales(
    trunk: Checkpoint, head: Checkpoint, facts: Sequence[TensorFacts]
) -> Iterator[Finding]:
    """NVFP4 blocks cover a narrow range; a factor for the whole matrix stands beside them."""
    used = any(name.endswith(".scale") for name in (*trunk.tensors, *head.tensors))
    for one in facts:
        if used and one.is_matrix and one.format == "NVFP4":
            scale = one.name.removesuffix(".weight") + ".scale"
            if scale not in head.tensors:
                yield fault(
                    "missing-scale",
                    scale,
                    f"is missing, but {one.name} is in NVFP4 and others in this model have such a "
                    "factor: it was dropped, and the matrix is out of scale by it",
                )


class _TrunkSample:
    """Statistics of the trunk's tensors by role, as far as they are asked for."""

    def __init__(self, trunk: Checkpoint, blocks: int) -> None:
        self._trunk = trunk
        self._blocks = blocks

    def norms(self, role: str) -> tuple[NDArray[np.float64], float]:
        """Mean of the weights of each block's norm, and the largest share of negative ones."""
        means, negative = [], 0.0
        for block in range(self._blocks):
            tensor = self._trunk.tensors.get(f"blk.{block}.{role}")
            if tensor is not None and len(tensor.shape) == 1 and _is_read(tensor):
                values = tensor.decode()
                if np.isfinite(values).all():
                    means.append(float(values.mean()))
                    negative = max(negative, float((values < 0).mean()))
        return np.array(means), negative

    def rms(self, role: str, shape: tuple[int, ...]) -> list[float]:
        """Root mean squares of matrices of a role with this shape, of a few blocks."""
        names = [f"blk.{block}.{role}" for block in range(self._blocks)]
        same = [
            tensor
            for name in names
            if (tensor := self._trunk.tensors.get(name)) is not None
            and tensor.shape == shape
            and _is_read(tensor)
        ]
        picked = np.unique(np.linspace(0, len(same) - 1, _TRUNK_BLOCKS).astype(int)) if same else ()
        return [value for index in picked if math.isfinite(value := _sampled_rms(same[index]))]


def _is_read(tensor: Tensor) -> bool:
    return tensor.block_type.id in BLOCK_TYPES


def _sampled_rms(tensor: Tensor) -> float:
    rows = tensor.data.reshape(math.prod(tensor.shape[:-1]), -1)
    picked = np.linspace(0, len(rows) - 1, min(_TRUNK_ROWS, len(rows))).astype(int)
    with np.errstate(all="ignore"):
        values = decode(tensor.block_type, rows[picked]).astype(np.float64)
    return float(np.sqrt(np.mean(values**2)))


def _check_norms(facts: Sequence[TensorFacts], sample: _TrunkSample) -> Iterator[Finding]:
    """Norm weights that lack the one of "1 + w", or have it twice.

    Some families keep their norms as w and multiply by 1 + w; in GGUF files the one is added in.
    Tools forget it, or add it to what has it already.
    """
    more, less = [], []
    for one in facts:
        block, role = place_of(one.name)
        if not one.is_norm or block is None:
            continue
        means, negative = sample.norms(role)
        if len(means):
            outside = _distance(one.mean, means)
            if outside > _SHIFT_SEEN and _distance(one.mean - 1, means) < _SHIFT_LEFT:
                more.append(one.name)
            elif outside > _SHIFT_SEEN and _distance(one.mean + 1, means) < _SHIFT_LEFT:
                less.append(one.name)
        if one.name not in less and one.negative > _MANY_NEGATIVE and negative < _MANY_NEGATIVE / 2:
            less.append(one.name)
    for names, text in (
        (more, "look as if one had been added to them once too often"),
        (less, "look as if the one of 1 + w had not been added to them"),
    ):
        if names:
            verb = text if len(names) > 1 else text.replace("look", "looks").replace("them", "it")
            yield doubt("norm-shift", names[0], f"{', '.join(names)}: {verb}")


def _distance(value: float, range_of: NDArray[np.float64]) -> float:
    """From a value to the range of others; 0 inside."""
    return float(max(range_of.min() - value, value - range_of.max(), 0.0))


def _check_scales(facts: Sequence[TensorFacts], sample: _TrunkSample) -> Iterator[Finding]:
    """Matrices that are many times larger, or smaller, than all of their kind in the trunk."""
    for one in facts:
        block, role = place_of(one.name)
        if not one.is_matrix or block is None or not one.rms:
            continue
        known = [value for value in sample.rms(role, one.shape) if value]
        if not known:
            continue
        ratio = one.rms / max(known) if one.rms > max(known) else min(known) / one.rms
        if ratio > _MOST_SCALE:
            what = "larger" if one.rms > max(known) else "smaller"
            yield doubt(
                "scale",
                one.name,
                f"its numbers are {ratio:.1f} times {what} than those of any such matrix of the "
                f"trunk (about 2^{round(math.log2(ratio))}): a scale may have been left out, or "
                "applied twice",
            )
