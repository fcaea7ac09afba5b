"""Metadata values of a new GGUF file as bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nextn.files.gguf.values import ARRAY, BOOL, NUMBERS, STRING, EncodedValue, LazyStrings

NewValue: TypeAlias = (
    "str | int | float | bool | np.generic | NDArray[np.generic] | LazyStrings | EncodedValue"
    " | Sequence[str] | Sequence[int] | Sequence[float] | Sequence[bool]"
)
"""What a metadata value can be made of.

Python integers become u32, or i32, u64, i64 if they need it; floats become f32. In lists, integers
become i32, or i64 if one needs it. NumPy scalars and arrays keep their types; an `EncodedValue`
keeps all its bytes.
"""

_KINDS = {dtype: kind for kind, dtype in NUMBERS.items() if kind != BOOL}
_INTEGERS = ("<u4", "<i4", "<u8", "<i8")
_ELEMENT_INTEGERS = ("<i4", "<i8", "<u8")


def encode_value(value: NewValue) -> bytes | memoryview:
    """The type of a value, then its bytes.

    Raises:
        ValueError: an integer beyond 64 bits, a list that is empty or holds different types, or an
            array of another type or more than one dimension.
    """
    match value:
        case EncodedValue():
            return value.data
        case str():
            return struct.pack("<I", STRING) + encode_string(value)
        case LazyStrings():
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + value.encoded
        case np.ndarray():
            return _encode_array(value)
        case bool() | np.bool_():
            return struct.pack("<IB", BOOL, bool(value))
        case int():
            number = np.array(value, _integer_type(_INTEGERS, value, value))
            return struct.pack("<I", _KINDS[number.dtype]) + number.tobytes()
        case np.generic():
            kind, data = _encode_numbers(np.asarray(value))
            return struct.pack("<I", kind) + data
        case float():
            return encode_value(np.float32(value))
        case _:
            return _encode_list(value)


def encode_string(text: str) -> bytes:
    """A string: u64 length, then UTF-8."""
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _encode_list(values: Sequence[str] | Sequence[int] | Sequence[float]) -> bytes:
    kinds = {type(value) for value in values}
    if kinds == {str}:
        strings = b"".join(encode_string(str(value)) for value in values)
        return struct.pack("<IIQ", ARRAY, STRING, len(values)) + strings
    numbers: list[int | float] = [value for value in values if not isinstance(value, str)]
    if kinds == {bool}:
        return _encode_array(np.array(numbers, np.bool_))
    if kinds == {int}:
        integers = [int(value) for value in numbers]
        dtype = _integer_type(_ELEMENT_INTEGERS, min(integers), max(integers))
        return _encode_array(np.array(integers, dtype))
    if kinds == {float}:
        return _encode_array(np.array(numbers, np.float32))
    names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
    raise ValueError(f"[gguf] a list of {names} is not a metadata value; give an array")


def _encode_array(values: NDArray[np.generic]) -> bytes:
    if values.ndim != 1:
        raise ValueError(f"[gguf] a metadata array of {values.ndim} dimensions; it must have one")
    kind, data = _encode_numbers(values)
    return struct.pack("<IIQ", ARRAY, kind, len(values)) + data


def _encode_numbers(values: NDArray[np.generic]) -> tuple[int, bytes]:
    if values.dtype == np.bool_:
        return BOOL, values.astype("<u1").tobytes()
    dtype = values.dtype.newbyteorder("<")
    if dtype not in _KINDS:
        raise ValueError(f"[gguf] GGUF has no metadata of the type {values.dtype}")
    return _KINDS[dtype], values.astype(dtype).tobytes()


def _integer_type(choices: Sequence[str], least: int, most: int) -> np.dtype[np.generic]:
    for choice in choices:
        limits = np.iinfo(choice)
        if limits.min <= least and most <= limits.max:
            return np.dtype(choice)
    raise ValueError(f"[gguf] {most if most > 0 else least} is beyond 64 bits")
