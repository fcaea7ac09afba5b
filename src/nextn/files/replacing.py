"""Files that appear under their name when they are complete, and never before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing, which takes the name when the block ends without an error.

    Until then it has a name of its own in the same folder, and an older file stays as it was. After
    an error, Ctrl-C included, nothing is left of it.

    Args:
        path: the name; an existing file is replaced.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
