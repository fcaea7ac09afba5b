"""Finds models that other programs downloaded; what is broken there is left out, never an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from nextn.errors import SourceError
from nextn.files.sources import hub_cache, ollama
from nextn.files.sources.cache import LocalModel
from nextn.files.sources.hub_cache import MAIN, HubName, files_below
from nextn.files.sources.hub_files import contents

HUB = "Hugging Face"
LLAMA_CPP = "llama.cpp"
OLLAMA = "Ollama"
LM_STUDIO = "LM Studio"


def list_other_caches() -> list[LocalModel]:
    """Models in the caches of the Hugging Face hub, llama.cpp, Ollama and LM Studio.

    Each is under the name or path that `resolve` takes. A file that several names or programs lead
    to is listed once.
    """
    found: dict[Path, LocalModel] = {}
    for model in (*_hub(), *_folders(), *_ollama()):
        found.setdefault(model.path.resolve(), model)
    return sorted(found.values(), key=lambda model: (model.source, model.name))


def _hub() -> Iterator[LocalModel]:
    for repository, directory in hub_cache.repositories():
        try:
            names = [HubName(repository, MAIN, "")]
            snapshots = sorted((directory / "snapshots").iterdir())
            names += [HubName(repository, snapshot.name, "") for snapshot in snapshots]
        except OSError:
            continue
        # The newest commit first, since an older one often leads to the same content.
        for name in names:
            yield from _snapshot(name)


def _snapshot(name: HubName) -> Iterator[LocalModel]:
    try:
        snapshot, found = hub_cache.cached_contents(name)
    except SourceError:
        return
    for model in found.models:
        path = snapshot / model.path
        shown = str(path)
        for file in filter(None, (model.label, model.path)):
            exact = HubName(name.repository, name.revision, file)
            if _leads_to(exact, path):
                shown = str(exact)
                break
        yield from _described(shown, path, model.bytes, HUB)


def _leads_to(name: HubName, path: Path) -> bool:
    """Whether the name, as it is written, is that of this file."""
    try:
        parsed = hub_cache.parse_hub_name(str(name))
        found = hub_cache.find_cached(parsed) if parsed else None
    except SourceError:
        return False
    return found is not None and found[0].path == path


def _folders() -> Iterator[LocalModel]:
    """The caches that are folders of GGUF files."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    llama_cpp = os.environ.get("LLAMA_CACHE") or f"{caches}/llama.cpp"
    for source, directory in (
        (LLAMA_CPP, llama_cpp),
        (LM_STUDIO, "~/.lmstudio/models"),
        (LM_STUDIO, "~/.cache/lm-studio/models"),
    ):
        root = Path(directory).expanduser()
        for model in contents(files_below(root)).models:
            path = root / model.path
            yield from _described(str(path), path, model.bytes, source)


def _ollama() -> Iterator[LocalModel]:
    for name, path in ollama.installed():
        yield from _described(name, path, None, OLLAMA)


def _described(name: str, path: Path, size: int | None, source: str) -> Iterator[LocalModel]:
    try:
        status = path.stat()
    except OSError:
        return
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    yield LocalModel(name, path, status.st_size if size is None else size, modified, source)
