"""Random valid blocks of the quantised formats, for tests that need bytes, not a quantiser."""

from __future__ import annotations

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import NVFP4
from numpy.typing import NDArray

# Where a format keeps its float16 scale (first) and minimum, and the standard deviation of the
# values of a block of random bytes whose scale is 1 and whose minimum centres the values on 0.
_SCALE_AT = {
    "Q4_0": 0,
    "Q4_1": 0,
    "Q5_0": 0,
    "Q5_1": 0,
    "Q8_0": 0,
    "Q2_K": 80,
    "Q3_K": 108,
    "Q4_K": 0,
    "Q5_K": 0,
    "Q6_K": 208,
    "IQ4_NL": 0,
    "IQ4_XS": 0,
}
_MINIMUM_OF_SCALE = {"Q4_1": -7.5, "Q5_1": -15.5, "Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}
_DEVIATION = {
    "Q4_0": 4.6,
    "Q4_1": 4.6,
    "Q5_0": 9.2,
    "Q5_1": 9.2,
    "Q8_0": 74.0,
    "Q2_K": 14.0,
    "Q3_K": 43.0,
    "Q4_K": 240.0,
    "Q5_K": 480.0,
    "Q6_K": 350.0,
    "IQ4_NL": 67.0,
    "IQ4_XS": 1250.0,
    "MXFP4": 5.9,
    "NVFP4": 2.9,
}
_Q6_K_SUB_SCALES = slice(192, 208)


def random_blocks(
    type_name: str, rows: int, columns: int, seed: int = 0, *, deviation: float | None = None
) -> NDArray[np.uint8]:
    """Rows of blocks with random codes and small random scales, of both signs where they have one.

    Args:
        type_name: a format of `nextn.files.BLOCK_TYPES`.
        rows: number of rows.
        columns: elements of a row, a multiple of the format's block.
        seed: the same seed gives the same bytes.
        deviation: rough standard deviation of the values; by default 1 / sqrt(columns).

    Returns:
        uint8 [rows, bytes per row].
    """
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]
    if columns % elements:
        raise ValueError(f"{columns} columns are not whole {type_name} blocks of {elements}")
    rng = np.random.default_rng(seed)
    deviation = columns**-0.5 if deviation is None else deviation
    if type_name in ("F32", "F16", "BF16"):
        values = (rng.standard_normal((rows, columns)) * deviation).astype(np.float32)
        return _float_bytes(type_name, values)
    blocks = rows * columns // elements
    data = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    scale = rng.uniform(0.5, 1.5, (blocks, 1)) * rng.choice([-1.0, 1.0], (blocks, 1))
    scale *= deviation / _DEVIATION[type_name]
    if type_name == "MXFP4":
        data[:, 0] = np.round(np.log2(np.abs(scale[:, 0]))) + 128
        return data.reshape(rows, -1)
    if type_name == "NVFP4":
        scales = np.abs(scale) * rng.uniform(0.5, 1.5, (blocks, 4))
        data[:, :4] = NVFP4.fp32_to_ue4m3(scales)
        return data.reshape(rows, -1)
    _write_half(data, _SCALE_AT[type_name], scale)
    if type_name in _MINIMUM_OF_SCALE:
        _write_half(data, _SCALE_AT[type_name] + 2, scale * _MINIMUM_OF_SCALE[type_name])
    if type_name == "Q6_K":
        sub_scales = rng.integers(-32, 33, (blocks, 16), dtype=np.int8)
        data[:, _Q6_K_SUB_SCALES] = sub_scales.view(np.uint8)
    return data.reshape(rows, -1)


def _float_bytes(type_name: str, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    if type_name == "F16":
        return values.astype("<f2").view(np.uint8)
    if type_name == "BF16":
        return (values.view(np.uint32) >> 16).astype("<u2").view(np.uint8)
    return values.view(np.uint8)


def _write_half(data: NDArray[np.uint8], at: int, values: NDArray[np.float64]) -> None:
    data[:, at : at + 2] = values.astype("<f2").view(np.uint8)
