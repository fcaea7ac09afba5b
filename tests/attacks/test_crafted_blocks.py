"""Crafted tensors in every block format: not whole blocks, cut off, or with a bad scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nextn.errors import FileFormatError
from nextn.files import BLOCK_TYPES, BlockType, open_checkpoint
from tests.support.gguf_bytes import GgufBytes, tensor_entry
from tests.support.random_blocks import random_blocks

QUANTISED = [pytest.param(t, id=t.name) for t in BLOCK_TYPES.values() if t.elements > 1]
# All scales of NVFP4 are finite.
MAY_BE_BAD = [case for case in QUANTISED if case.id != "NVFP4"]
ROWS = 3


def write(path: Path, block_type: BlockType, columns: int, data: bytes) -> Path:
    entry = tensor_entry("a", [columns, ROWS], block_type.id)
    path.write_bytes(GgufBytes(tensors=[entry], data=data).build())
    return path


def good_blocks(block_type: BlockType) -> np.ndarray:
    return random_blocks(block_type.name, ROWS, 2 * block_type.elements)


@pytest.mark.parametrize("block_type", QUANTISED)
def test_whole_blocks_are_read(tmp_path: Path, block_type: BlockType) -> None:
    data = good_blocks(block_type)
    path = write(tmp_path / "a.gguf", block_type, 2 * block_type.elements, data.tobytes())
    with open_checkpoint(path) as checkpoint:
        tensor = checkpoint.tensors["a"]
        assert tensor.nbytes == data.nbytes
        tensor.check_finite()


@pytest.mark.parametrize("block_type", QUANTISED)
@pytest.mark.parametrize("part", [1, 2, -1])
def test_rows_that_are_not_whole_blocks_are_refused(
    tmp_path: Path, block_type: BlockType, part: int
) -> None:
    columns = block_type.elements + (block_type.elements // part if part > 1 else part)
    path = write(tmp_path / "a.gguf", block_type, columns, bytes(1 << 12))
    with pytest.raises(FileFormatError, match=f"not whole {block_type.name} blocks") as caught:
        open_checkpoint(path)
    assert caught.value.field == "tensor a"


@pytest.mark.parametrize("block_type", QUANTISED)
def test_a_missing_last_byte_is_noticed(tmp_path: Path, block_type: BlockType) -> None:
    data = good_blocks(block_type).tobytes()[:-1]
    path = write(tmp_path / "a.gguf", block_type, 2 * block_type.elements, data)
    with pytest.raises(FileFormatError, match="truncated") as caught:
        open_checkpoint(path)
    assert caught.value.field == "tensor a"


@pytest.mark.parametrize("block_type", MAY_BE_BAD)
def test_a_bad_scale_is_found_with_its_block(tmp_path: Path, block_type: BlockType) -> None:
    data = good_blocks(block_type)
    block = data.reshape(-1, block_type.bytes)[4]
    if block_type.scales_at:
        block[block_type.scales_at[-1] : block_type.scales_at[-1] + 2] = 0x00, 0xFC
    else:
        block[block_type.power_at] = 0xFF
    path = write(tmp_path / "a.gguf", block_type, 2 * block_type.elements, data.tobytes())
    with (
        open_checkpoint(path) as checkpoint,
        pytest.raises(FileFormatError, match="tensor a: block 4 holds NaN or infinity"),
    ):
        checkpoint.tensors["a"].check_finite()
