"""Loading weights into the native executor."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from nextn.backends import create_executor
from nextn.files import open_checkpoint
from tests.support.tiny_gguf import write_tiny_model


def resident_bytes(path: Path) -> int:
    """Bytes of a file that this process has in memory through its mappings."""
    resident, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            resident += 1024 * int(line.split()[1])
    return resident


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory in use")
def test_packed_weights_do_not_stay_in_memory_a_second_time(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    expected = write_tiny_model(path, "llama", hidden=256, head_dim=64, ffn=2048, types="Q8_0")
    size = path.stat().st_size
    with open_checkpoint(path) as checkpoint:
        for tensor in checkpoint.tensors.values():
            tensor.decode()
        assert resident_bytes(path) > 0.9 * size
        executor = create_executor(checkpoint, threads=2, context_length=32, block_count=1)
        assert resident_bytes(path) < 0.3 * size
        # What was given back is read again from the file.
        for name, tensor in checkpoint.tensors.items():
            np.testing.assert_array_equal(tensor.decode(), expected[name])
        executor.close()
