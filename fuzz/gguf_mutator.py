"""Changes GGUF files part by part, so that most of them still have a header that makes sense.

A file is taken apart without trusting anything, one part is changed, and it is put together again
with right counts and, mostly, right offsets. Without this, nearly every changed byte would end in
the same few errors at the beginning of the reader.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from random import Random

import atheris
from tests.support.gguf_bytes import ARRAY, STRING, GgufBytes, entry, string, tensor_entry, u32, u64

ALIGNMENT = 32
MOST_DATA = 1 << 16
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2),
}  # fmt: skip
NUMBERS = [
    *(0, 1, 2, 3, 4, 7, 8, 16, 31, 32, 33, 64, 127, 128, 255, 256, 512, 1 << 15, 1 << 16, 1 << 20),
    *(1 << 24, 1 << 28, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, (1 << 62) + 1),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0x7F800000, 0xFF800000, 0x7FC00000, 0x3F800000),
    *(0x7FF0000000000000, 0x0000000000000001, 0x3FF0000000000000, 0x00000001, 0x7F7FFFFF),
]


@dataclass
class Entry:
    """A metadata entry: key, type and the bytes of its value."""

    key: bytes
    kind: int
    value: bytes


@dataclass
class Tensor:
    """An entry of the tensor list."""

    name: bytes
    sizes: list[int]
    type_id: int
    offset: int

    @property
    def nbytes(self) -> int:
        """The bytes that the shape needs, as far as it makes sense."""
        elements, size = BLOCKS.get(self.type_id, (1, 4))
        return math.prod(self.sizes) // elements * size


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise EOFError
        self.at += count
        return self.content[self.at - count : self.at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")


def take_apart(content: bytes) -> tuple[list[Entry], list[Tensor], bytes]:
    """Read as many parts of a file as there are."""
    reader = _Reader(content)
    entries: list[Entry] = []
    tensors: list[Tensor] = []
    try:
        reader.take(8)
        tensor_count, entry_count = reader.u64(), reader.u64()
        for _ in range(min(entry_count, 200)):
            key, kind = reader.take(reader.u64()), reader.u32()
            start = reader.at
            _skip(reader, kind)
            entries.append(Entry(key, kind, content[start : reader.at]))
        for _ in range(min(tensor_count, 200)):
            name = reader.take(reader.u64())
            sizes = [reader.u64() for _ in range(min(reader.u32(), 5))]
            tensors.append(Tensor(name, sizes, reader.u32(), reader.u64()))
    except EOFError:
        pass
    return entries, tensors, content[-(-reader.at // ALIGNMENT) * ALIGNMENT :]


def _skip(reader: _Reader, kind: int) -> None:
    if kind == STRING:
        reader.take(reader.u64())
    elif kind == ARRAY:
        element, count = reader.u32(), reader.u64()
        if element == STRING:
            for _ in range(min(count, 10_000)):
                reader.take(reader.u64())
        else:
            reader.take(SIZES.get(element, 1) * count)
    else:
        reader.take(SIZES.get(kind, 4))


def put_together(entries: list[Entry], tensors: list[Tensor], data: bytes) -> bytes:
    """Write the parts down again."""
    return GgufBytes(
        metadata=[entry(part.key, part.kind, part.value) for part in entries],
        tensors=[tensor_entry(t.name, t.sizes, t.type_id, t.offset) for t in tensors],
        data=data,
    ).build()


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """Change a file; see the top of this page."""
    random = Random(seed)
    if random.random() < 0.15:
        return bytes(atheris.Mutate(content, max_size))
    entries, tensors, data = take_apart(content)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if tensors and random.random() < 0.3:
            _change_tensors(tensors, random)
        elif data and random.random() < 0.1:
            data = bytes(atheris.Mutate(data, min(2 * len(data), MOST_DATA)))
        elif entries:
            _change_entries(entries, random)
    if random.random() < 0.85:
        data = _lay_out(tensors, data)
    changed = put_together(entries, tensors, data)
    return changed if len(changed) <= max_size else changed[:max_size]


def _lay_out(tensors: list[Tensor], data: bytes) -> bytes:
    """Give every tensor a place of its own, and bytes."""
    end = 0
    for tensor in tensors:
        tensor.offset = end
        end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        if end > MOST_DATA:
            return data
    return data[:end] + bytes(max(0, end - len(data)))


def _change_tensors(tensors: list[Tensor], random: Random) -> None:
    index = random.randrange(len(tensors))
    tensor = tensors[index]
    match random.randrange(7):
        case 0:
            tensor.type_id = random.choice([*BLOCKS, *range(45), 2**31])
        case 1 if tensor.sizes:
            at = random.randrange(len(tensor.sizes))
            near = [tensor.sizes[at] * 2, tensor.sizes[at] // 2, tensor.sizes[at] + 1]
            tensor.sizes[at] = random.choice([*NUMBERS, *near]) % (1 << 64)
        case 2:
            tensor.sizes = random.choice(
                [tensor.sizes[:-1], [*tensor.sizes, 1], tensor.sizes[::-1]]
            )
        case 3:
            tensor.offset = random.choice(NUMBERS)
        case 4:
            del tensors[index]
        case 5:
            tensor.name = random.choice([t.name for t in tensors]) + random.choice([b"", b"s"])
        case _:
            tensor.name = bytes(atheris.Mutate(tensor.name, 64))


def _change_entries(entries: list[Entry], random: Random) -> None:
    index = random.randrange(len(entries))
    part = entries[index]
    match random.randrange(9):
        case 0:
            del entries[index]
        case 1:
            part.key = bytes(atheris.Mutate(part.key, 64))
        case 2:
            other = random.choice(entries)
            part.kind, part.value = other.kind, other.value
        case 3 if part.kind == ARRAY:
            part.value = u32(random.choice([*range(14), 2**32 - 1])) + part.value[4:]
        case 4 if part.kind == ARRAY:
            part.value = part.value[:4] + u64(random.choice(NUMBERS)) + part.value[12:]
        case 5 if part.kind == STRING:
            part.value = string(bytes(atheris.Mutate(part.value[8:], len(part.value) + 32)))
        case _:
            if part.kind == ARRAY:
                part.value = _changed_array(part.value, random)
            else:
                kind = random.choice([part.kind, part.kind, part.kind, *SIZES])
                width = SIZES.get(kind, 4)
                number = random.choice([*NUMBERS, random.randrange(64)]) % (1 << 8 * width)
                if kind == 6 and random.random() < 0.5:
                    number = struct.unpack("<I", struct.pack("<f", random.gauss(0, 100)))[0]
                part.kind, part.value = kind, number.to_bytes(width, "little")


def _changed_array(value: bytes, random: Random) -> bytes:
    """Drop, double or change one element of an array, and keep its count right."""
    reader = _Reader(value)
    elements: list[bytes] = []
    try:
        kind, count = reader.u32(), reader.u64()
        for _ in range(min(count, 10_000)):
            size = reader.u64() if kind == STRING else SIZES.get(kind, 1)
            elements.append(reader.take(size))
    except EOFError:
        pass
    if elements:
        at = random.randrange(len(elements))
        match random.randrange(4):
            case 0:
                del elements[at]
            case 1:
                elements.insert(at, random.choice(elements))
            case _:
                if kind == STRING:
                    elements[at] = bytes(atheris.Mutate(elements[at], len(elements[at]) + 16))
                else:
                    number = random.choice([*NUMBERS, 1, 2, 3, 4, 5, 6])
                    elements[at] = u64(number % (1 << 64))[: SIZES.get(kind, 1)]
    encoded = b"".join(string(element) if kind == STRING else element for element in elements)
    return u32(kind) + u64(len(elements)) + encoded
