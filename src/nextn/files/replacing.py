"""Files that appear under their name when they are complete, and never before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
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
    with replacing_all([path]) as (partial,), partial.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing_all(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Give temporary names to files that belong together, and their own when the block ends.

    The files are to be written, and flushed to the disk, under the temporary names. They take
    their own from the last to the first, so that the first, by which the others are found, is there
    only when all are. After an error, Ctrl-C included, nothing is left of them.

    Args:
        paths: the names; existing files are replaced.

    Raises:
        OSError: one of them cannot be renamed.
    """
    partials = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    renamed: list[Path] = []
    try:
        yield partials
        for path, partial in reversed(list(zip(paths, partials, strict=True))):
            partial.replace(path)
            renamed.append(path)
    except BaseException:
        # All of a file's parts, or none of them.
        whole = len(renamed) == len(paths)
        for leftover in partials + ([] if whole else renamed):
            with contextlib.suppress(OSError):
                leftover.unlink()
        raise
