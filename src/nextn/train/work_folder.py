"""The work folder of a training: one process at a time writes into it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nextn.errors import RequestError

_LOCK = "lock"


@contextmanager
def work_folder(path: Path) -> Iterator[None]:
    """Make a work folder, and keep other processes out of it.

    Raises:
        RequestError: another process works in it.
        OSError: it cannot be made.
    """
    path.mkdir(parents=True, exist_ok=True)
    # The lock goes with the open file, also when the process is killed.
    with (path / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestError(
                f"{path}: another process writes or trains in this folder; wait for it, or give "
                "another --work"
            ) from error
        yield
