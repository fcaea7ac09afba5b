"""Rotary frequencies from the metadata that GGUF files carry."""

from __future__ import annotations

import math

import numpy as np

from nextn.errors import FileFormatError, UnsupportedModelError, shown
from nextn.files import Checkpoint
from nextn.models.weights import WeightReader
from nextn.plan import Rotary

_YARN_FAST_TURNS = 32.0
_YARN_SLOW_TURNS = 1.0
# Radians per position; 1 is the fastest in use. Beyond this an angle may overflow.
_MOST_FREQUENCY = 1e6


def read_rotary(
    checkpoint: Checkpoint,
    weights: WeightReader,
    head_width: int,
    *,
    interleaved: bool,
    base: float | None = None,
    scaled: bool = True,
) -> Rotary:
    """Read `{arch}.rope.*` and the optional tensor `rope_freqs.weight`.

    Args:
        checkpoint: the model.
        weights: where the optional factor tensor is asked for.
        head_width: width of a head; the default of `rope.dimension_count`.
        interleaved: whether neighbouring elements form a pair.
        base: overrides `rope.freq_base`.
        scaled: whether `rope.scaling.*` applies (Gemma's local layers go without).

    Raises:
        FileFormatError: a value out of range.
        UnsupportedModelError: a scaling type that nextn does not know.
    """
    width = checkpoint.integer(
        "{arch}.rope.dimension_count", head_width, minimum=2, maximum=head_width
    )
    if width % 2:
        raise FileFormatError(checkpoint.path, "rope.dimension_count", f"{width} is odd")
    if base is None:
        base = checkpoint.number("{arch}.rope.freq_base", 10000.0, minimum=1.0)
    frequencies = base ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    magnitude, factors = 1.0, None
    if scaled:
        # What overflows is found below.
        with np.errstate(all="ignore"):
            frequencies, magnitude = _scale(checkpoint, frequencies, base, width)
            factors = weights.optional_vector("rope_freqs.weight", width // 2)
            if factors is not None:
                frequencies = frequencies / checkpoint.tensors["rope_freqs.weight"].decode()
    # Written so that NaN is refused, too.
    if not (np.abs(frequencies) <= _MOST_FREQUENCY).all():
        raise FileFormatError(
            checkpoint.path,
            "rope_freqs.weight" if factors is not None else f"{checkpoint.architecture}.rope",
            "gives frequencies that are NaN or beyond all reason",
        )
    return Rotary(tuple(frequencies.tolist()), interleaved, magnitude)


def _scale(
    checkpoint: Checkpoint, frequencies: np.ndarray, base: float, width: int
) -> tuple[np.ndarray, float]:
    kind = checkpoint.string("{arch}.rope.scaling.type", "none")
    factor = checkpoint.number("{arch}.rope.scaling.factor", 1.0, minimum=0.0)
    if kind == "none" or factor in (0.0, 1.0):
        return frequencies, 1.0
    if kind == "linear":
        return frequencies / factor, 1.0
    if kind == "yarn":
        if base <= 1.0:
            raise FileFormatError(
                checkpoint.path, "rope.freq_base", f"is {base:g}; yarn needs more than 1"
            )
        original = checkpoint.integer("{arch}.rope.scaling.original_context_length", minimum=1)
        return _yarn(frequencies, factor, base, width, original), 0.1 * math.log(factor) + 1.0
    raise UnsupportedModelError(
        f"{checkpoint.path}: rope.scaling.type: {shown(kind)} is not supported; nextn knows none, "
        "linear, yarn"
    )


def _yarn(
    frequencies: np.ndarray, factor: float, base: float, width: int, original: int
) -> np.ndarray:
    """Interpolate slow pairs and keep fast ones (Peng et al., 2023, section 3.2)."""

    def pair_of(turns: float) -> float:
        return width * math.log(original / (2 * math.pi * turns)) / (2 * math.log(base))

    low = max(0.0, math.floor(pair_of(_YARN_FAST_TURNS)))
    high = min(width - 1.0, math.ceil(pair_of(_YARN_SLOW_TURNS)))
    ramp = np.clip((np.arange(width // 2) - low) / max(0.001, high - low), 0.0, 1.0)
    result: np.ndarray = frequencies * (1.0 - ramp) + frequencies / factor * ramp
    return result
