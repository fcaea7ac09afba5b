"""The cache of the Hugging Face hub on this machine, which many programs share.

    hub/models--USER--REPO/refs/main                        the commit that "main" was last
    hub/models--USER--REPO/snapshots/COMMIT/model.gguf      a link to the content
    hub/models--USER--REPO/blobs/SHA256                     the content

`huggingface_hub` knows all this too, but takes longer to import than a small model to load, so what
is here already is found without it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nextn.errors import SourceError
from nextn.files.replacing import replacing
from nextn.files.sources.cache import disk_errors
from nextn.files.sources.hub_files import Contents, HubFile, HubModel, choose, contents, head_for
from nextn.files.sources.model_source import ModelSource

HUB_PREFIX = "hf:"
CACHE_VARIABLE = "HF_HUB_CACHE"
MAIN = "main"

_REPOSITORY_PREFIX = "models--"
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_NAME = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[A-Za-z0-9][\w./-]*))?"
    r"(?::(?P<file>[A-Za-z0-9][\w./ +-]*))?",
    re.ASCII,
)
# The same file as people copy it from an address; only after "hf:", where it is no path.
_SLASHED = re.compile(
    r"(?P<start>[\w.-]+/[\w.-]+)/(?P<file>[A-Za-z0-9][\w./ +-]*\.gguf)",
    re.ASCII | re.IGNORECASE,
)
# Both would lead to other directories of the cache; the hub allows neither in a repository's name.
_FORBIDDEN = re.compile(r"\.\.|^[^:@]*--")
_ENDING = ".gguf"


@dataclass(frozen=True, slots=True)
class HubName:
    """A model on the hub, as a user names it.

    Attributes:
        repository: "USER/REPO".
        revision: a branch, a tag or a commit.
        file: the quantisation or the file; "" for the usual one.
    """

    repository: str
    revision: str
    file: str

    @property
    def prefix(self) -> str:
        """The name without the file."""
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{HUB_PREFIX}{self.repository}{revision}"

    def __str__(self) -> str:
        return f"{self.prefix}:{self.file}" if self.file else self.prefix


def parse_hub_name(name: str) -> HubName | None:
    """Read "hf:USER/REPO[@REVISION][:QUANT]", or the same without "hf:".

    "hf:USER/REPO/FILE.gguf" is "hf:USER/REPO:FILE.gguf".

    Returns:
        None if it is no such name. Without "hf:", what is on the disk or ends in .gguf is a path.

    Raises:
        SourceError: it begins with "hf:" but does not go on as it should.
    """
    marked = name.startswith(HUB_PREFIX)
    rest = name.removeprefix(HUB_PREFIX)
    if marked and (slashed := _SLASHED.fullmatch(rest)):
        rest = f"{slashed['start']}:{slashed['file']}"
    match = _NAME.fullmatch(rest)
    if match is None or _FORBIDDEN.search(match[0]):
        if marked:
            raise SourceError(
                f"{name!r} is not of the form {HUB_PREFIX}USER/REPO[@REVISION][:QUANT], such as "
                f"{HUB_PREFIX}ggml-org/gemma-3-1b-it-GGUF:Q4_K_M"
            )
        return None
    if not marked and (match["repository"].lower().endswith(_ENDING) or os.path.lexists(name)):
        return None
    return HubName(match["repository"], match["revision"] or MAIN, match["file"] or "")


def hub_directory() -> Path:
    """Where the cache is, by the variables that `huggingface_hub` reads."""
    for variable in (CACHE_VARIABLE, "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return _expanded(os.environ[variable])
    if os.environ.get("HF_HOME"):
        return _expanded(os.environ["HF_HOME"]) / "hub"
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expanded(caches) / "huggingface/hub"


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser()


def repository_directory(repository: str) -> Path:
    """The directory of "USER/REPO" in the cache."""
    return hub_directory() / (_REPOSITORY_PREFIX + repository.replace("/", "--"))


def is_commit(text: str) -> bool:
    """Whether this is the full name of a commit."""
    return _COMMIT.fullmatch(text) is not None


def cached_contents(name: HubName) -> tuple[Path, Contents]:
    """The snapshot of a repository in the cache, and what is in it.

    Raises:
        SourceError: a directory that cannot be read.
    """
    directory = repository_directory(name.repository)
    commit = name.revision
    with disk_errors(directory, CACHE_VARIABLE):
        reference = directory / "refs" / name.revision
        if not is_commit(commit) and reference.is_file():
            commit = reference.read_text(encoding="ascii", errors="replace").strip()
        if not is_commit(commit):
            return directory, Contents((), ())
        snapshot = directory / "snapshots" / commit
        return snapshot, contents(files_below(snapshot))


def find_cached(name: HubName) -> tuple[ModelSource, HubModel] | None:
    """A model in the cache; None if it is not there, or if it is not clear which is meant.

    Raises:
        SourceError: a directory that cannot be read.
    """
    snapshot, found = cached_contents(name)
    try:
        model = choose(found.models, name.file, name.prefix)
    except SourceError:
        return None
    return source_of(name, snapshot, model, head_for(model, found.heads)), model


def source_of(name: HubName, snapshot: Path, model: HubModel, head: HubFile | None) -> ModelSource:
    """A model in a snapshot, under the name that says which one it is."""
    exact = HubName(name.repository, name.revision, name.file or model.label or model.path)
    return ModelSource(snapshot / model.path, str(exact), snapshot / head.path if head else None)


def files_below(directory: Path) -> Iterator[HubFile]:
    """The .gguf files in a directory and below; what cannot be read is left out."""
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            if not name.lower().endswith(_ENDING):
                continue
            try:
                # A link whose target is gone is a download that someone removed.
                size = path.stat().st_size
            except OSError:
                continue
            yield HubFile(path.relative_to(directory).as_posix(), size)


def repositories() -> Iterator[tuple[str, Path]]:
    """Every "USER/REPO" in the cache, and its directory; what cannot be read is left out."""
    try:
        found = sorted(hub_directory().glob(_REPOSITORY_PREFIX + "*"))
    except OSError:
        return
    for directory in found:
        repository = directory.name.removeprefix(_REPOSITORY_PREFIX).replace("--", "/")
        yield repository, directory


def link(snapshot: Path, file: HubFile, blob: Path) -> None:
    """Let a snapshot's file lead to its content."""
    path = snapshot / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    # Relative, so that the cache can be moved.
    temporary.symlink_to(os.path.relpath(blob, path.parent))
    temporary.replace(path)


def write_reference(name: HubName, commit: str) -> None:
    """Note which commit a branch or tag is now."""
    if is_commit(name.revision):
        return
    path = repository_directory(name.repository) / "refs" / name.revision
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(commit.encode("ascii"))
