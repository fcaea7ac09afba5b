"""The element types of safetensors files, and what they mean as float32.

The 8-bit floats are those of the OCP specifications: E4M3 and E5M2 (Micikevicius et al., 2022), and
E8M0, a power of two that scales a block (Microscaling Formats 1.0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def _e4m3() -> Floats:
    """E4M3 without infinities: bias 7, and NaN where all seven bits are set."""
    exponents, mantissas = np.divmod(np.arange(128), 8)
    values = np.ldexp(
        (mantissas + 8 * (exponents > 0)).astype(np.float32), np.maximum(exponents, 1) - 10
    )
    values[127] = np.nan
    return np.concatenate((values, -values)).astype(np.float32)


def _e5m2() -> Floats:
    """E5M2 is the upper byte of float16."""
    words: NDArray[np.uint16] = np.arange(256, dtype=np.uint16) << np.uint16(8)
    values: Floats = words.view(np.float16).astype(np.float32)
    return values


def _e8m0() -> Floats:
    values: Floats = np.ldexp(1.0, np.arange(255) - 127).astype(np.float32)
    return np.append(values, np.float32(np.nan))


E4M3: Floats = _e4m3()
"""What each byte of an F8_E4M3 tensor stands for: float32 [256]."""
E5M2: Floats = _e5m2()
"""The same of F8_E5M2."""
E8M0: Floats = _e8m0()
"""The same of F8_E8M0."""

_TABLES: dict[str, Floats] = {"F8_E4M3": E4M3, "F8_E5M2": E5M2, "F8_E8M0": E8M0}


@dataclass(frozen=True, slots=True)
class Dtype:
    """An element type.

    Attributes:
        name: as files call it.
        storage: the NumPy type that its bytes are viewed as; of types that NumPy lacks, an unsigned
            integer of the same size.
        is_float: whether its values are numbers with a fraction, such as weights.
    """

    name: str
    storage: np.dtype[np.generic]
    is_float: bool

    @property
    def bytes(self) -> int:
        """Bytes of an element."""
        return self.storage.itemsize

    def decode(self, stored: NDArray[np.generic]) -> Floats:
        """The values of elements of `storage`: float32, of the same shape."""
        table = _TABLES.get(self.name)
        if table is not None:
            found: Floats = table[stored.view(np.uint8)]
            return found
        if self.name == "BF16":
            bits: NDArray[np.uint32] = stored.astype(np.uint32) << np.uint32(16)
            return bits.view(np.float32)
        with np.errstate(over="ignore"):  # of F64; what becomes infinite is found by others
            return stored.astype(np.float32)


def _dtypes() -> dict[str, Dtype]:
    floats = {
        "F64": "<f8",
        "F32": "<f4",
        "F16": "<f2",
        "BF16": "<u2",
        **dict.fromkeys(_TABLES, "u1"),
    }
    integers = {
        **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"},
        **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "u1"},
    }
    return {
        name: Dtype(name, np.dtype(storage), names is floats)
        for names in (floats, integers)
        for name, storage in names.items()
    }


DTYPES: dict[str, Dtype] = _dtypes()
"""The element types that nextn reads, by the name in files."""
