"""Fetches models from the Hugging Face hub into its own cache, for all programs that use it.

`huggingface_hub` speaks with the hub: what is in a repository, who may read it, tokens and
endpoints. The bytes come through `download`, because that goes on with what an earlier process
left behind, and gives a file its name only when its checksum is right.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nextn.errors import SourceError
from nextn.files.sources import hub_cache
from nextn.files.sources.cache import disk_errors, file_lock
from nextn.files.sources.download import UnusableAddressError, download
from nextn.files.sources.hub_cache import CACHE_VARIABLE, HubName
from nextn.files.sources.hub_files import (
    Contents,
    HubFile,
    HubModel,
    choose,
    contents,
    head_for,
    label_of,
    listed,
    size_text,
)
from nextn.files.sources.model_source import ModelSource
from nextn.files.sources.progress import ProgressCallback

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_TIMEOUT_SECONDS = 20.0
_NOT_ALLOWED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_OVERLOADED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_SHA256_DIGITS = 64
_HEXADECIMAL = frozenset("0123456789abcdef")


class UnreachableHubError(SourceError):
    """The hub did not answer; what is in the cache may do."""


def fetch(name: HubName, progress: ProgressCallback) -> ModelSource:
    """Download a model and its prediction heads; what is in the cache already is kept.

    Raises:
        UnreachableHubError: no answer.
        SourceError: no such repository, revision or file, several that are meant, no permission, a
            wrong checksum, or a full disk.
    """
    commit, model, head = find_model(name)
    files = [*model.parts, *([head] if head else [])]
    directory = hub_cache.repository_directory(name.repository)
    snapshot = directory / "snapshots" / commit
    missing = [file for file in files if not (directory / "blobs" / file.blob).is_file()]
    _check_room(name, directory, missing)
    done = 0
    total = sum(file.bytes for file in missing)
    for file in files:
        blob = directory / "blobs" / file.blob

        def report(count: int, _: int | None, done: int = done) -> None:
            progress(f"downloading {name}", done + count, total)

        lock = hub_cache.hub_directory() / ".locks" / directory.name / f"{file.blob}.lock"
        with file_lock(lock, str(name), progress, CACHE_VARIABLE):
            if not blob.is_file():
                _fetch_file(name, commit, file, blob, report)
            with disk_errors(snapshot, CACHE_VARIABLE):
                hub_cache.link(snapshot, file, blob)
        done += file.bytes if file in missing else 0
    with disk_errors(directory, CACHE_VARIABLE):
        hub_cache.write_reference(name, commit)
    return hub_cache.source_of(name, snapshot, model, head)


def find_model(name: HubName, *, also_heads: bool = False) -> tuple[str, HubModel, HubFile | None]:
    """Ask the hub what a name means: the commit, the model, and the file of its heads if any.

    Args:
        name: what the user asks for.
        also_heads: whether a file of heads alone may be meant, if it is named.

    Raises:
        SourceError: as `fetch`.
    """
    commit, found = _look(name)
    for head in found.heads if also_heads and name.file else ():
        if name.file in (head.path, PurePosixPath(head.path).name):
            return commit, HubModel((head,), label_of(head.path)), None
    model = choose(found.models, name.file, name.prefix)
    return commit, model, head_for(model, found.heads)


def not_cached(name: HubName) -> SourceError:
    """What to say when the model is not in the cache, and may not be downloaded."""
    _, found = hub_cache.cached_contents(name)
    here = f"; of this repository there is {listed(found.models)}" if found.models else ""
    return SourceError(
        f"{name}: not on this machine, and downloads are off; run `nextn pull {name}` first{here}"
    )


def _look(name: HubName) -> tuple[str, Contents]:
    """The commit that a revision is now, and the GGUF files of it."""
    with _hub_errors(name):
        from huggingface_hub import HfApi, constants

        api = HfApi(endpoint=constants.ENDPOINT, library_name="nextn")
        information = api.model_info(
            name.repository,
            revision=name.revision,
            files_metadata=True,
            timeout=_TIMEOUT_SECONDS,
        )
        commit = str(information.sha)
        siblings = information.siblings or []
        files = [
            _file(sibling) for sibling in siblings if sibling.rfilename.lower().endswith(".gguf")
        ]
    bad = next((file for file in files if not _is_safe(file)), None)
    if bad is not None or not hub_cache.is_commit(commit):
        # It would become a path on this machine.
        raise SourceError(f"{name}: the hub names a bad file or commit: {bad or commit!a}")
    return commit, contents(files)


def _file(sibling: RepoSibling) -> HubFile:
    if sibling.lfs is None:
        return HubFile(sibling.rfilename, int(sibling.size or 0), None, str(sibling.blob_id))
    sha256 = str(sibling.lfs.sha256).lower()
    if len(sha256) != _SHA256_DIGITS:
        raise ValueError(f"{sha256!a} is no SHA-256")
    return HubFile(sibling.rfilename, int(sibling.lfs.size), sha256, sha256)


def _is_safe(file: HubFile) -> bool:
    parts = PurePosixPath(file.path).parts
    return (
        file.path.isprintable()
        and "\\" not in file.path
        and not any(part.startswith((".", "/")) for part in parts)
        and bool(file.blob)
        and _HEXADECIMAL.issuperset(file.blob)
        and file.bytes >= 0
    )


def _check_room(name: HubName, directory: Path, missing: Sequence[HubFile]) -> None:
    """Refuse before hours of downloading what the disk cannot hold."""
    blobs = directory / "blobs"
    with disk_errors(directory, CACHE_VARIABLE):
        blobs.mkdir(parents=True, exist_ok=True)
        parts = [blobs / f"{file.blob}.part" for file in missing]
        kept = sum(part.stat().st_size for part in parts if part.is_file())
        needed = sum(file.bytes for file in missing) - kept
        free = shutil.disk_usage(blobs).free
    if needed > free:
        raise SourceError(
            f"{name}: {size_text(needed)} are to be downloaded, but only {size_text(free)} are "
            f"free in {blobs}; make room, or set {CACHE_VARIABLE} to another directory"
        )


def _fetch_file(
    name: HubName,
    commit: str,
    file: HubFile,
    blob: Path,
    report: Callable[[int, int | None], None],
) -> None:
    url, authorization = address_of(name, commit, file)
    try:
        download(
            url,
            blob,
            sha256=file.sha256,
            report=report,
            authorization=authorization,
            variable=CACHE_VARIABLE,
        )
    except UnusableAddressError as error:
        raise SourceError(f"{name}: {file.path} cannot be downloaded: {error}") from error
    with disk_errors(blob, CACHE_VARIABLE):
        size = blob.stat().st_size
        if size != file.bytes:
            blob.unlink()
            raise SourceError(
                f"{name}: {file.path} has {size} bytes, but the hub says {file.bytes}; it was "
                "removed"
            )


def address_of(name: HubName, commit: str, file: HubFile) -> tuple[str, str | None]:
    """Where a file can be read, and the authorization to show there.

    Raises:
        SourceError: the hub does not let it be read.
    """
    with _hub_errors(name):
        from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url

        url = hf_hub_url(name.repository, file.path, revision=commit, endpoint=constants.ENDPOINT)
        # Says in the hub's words why a file may not be read.
        get_hf_file_metadata(url, timeout=_TIMEOUT_SECONDS, endpoint=constants.ENDPOINT)
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    return url, f"Bearer {token}" if token else None


@contextmanager
def _hub_errors(name: HubName) -> Iterator[None]:
    """Turn whatever `huggingface_hub` and the HTTP client below it raise into SourceError.

    Which client that is changes between its versions, so its errors are not named here.
    """
    try:
        yield
    except Exception as error:
        from huggingface_hub import constants

        raise _explained(error, name, constants.ENDPOINT) from error


def _explained(error: Exception, name: HubName, endpoint: str) -> SourceError:
    from huggingface_hub import errors

    page = f"{endpoint}/{name.repository}"
    match error:
        case errors.GatedRepoError():
            return SourceError(
                f"{name}: its owner gives access on request; ask for it at {page}, then set "
                "HF_TOKEN to a token of your account"
            )
        case errors.RevisionNotFoundError():
            return SourceError(f"{name}: the repository has no revision {name.revision}")
        case errors.RepositoryNotFoundError():
            return SourceError(
                f"{name}: neither a file here nor a repository at {endpoint}; check the spelling, "
                "and set HF_TOKEN if it is private"
            )
        case errors.OfflineModeIsEnabled():
            return UnreachableHubError(
                f"{name}: not on this machine, and HF_HUB_OFFLINE forbids to ask the hub for it"
            )
        case errors.HfHubHTTPError():
            status = error.response.status_code
            if status in _NOT_ALLOWED:
                return SourceError(
                    f"{name}: {endpoint} refuses access ({status}); check that HF_TOKEN is valid "
                    "and may read this repository"
                )
            if status in _OVERLOADED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return UnreachableHubError(f"{name}: {endpoint} answered {status}; try again later")
            return SourceError(f"{name}: {endpoint} answered {status} ({_first_line(error)})")
        case errors.HFValidationError():
            return SourceError(f"{name}: {_first_line(error)}")
        case OSError() | TimeoutError():
            pass
        case ValueError() | TypeError() | KeyError() | AttributeError():
            return SourceError(
                f"{name}: the answer of {endpoint} is not understood ({_first_line(error)}); is "
                "HF_ENDPOINT the address of a hub?"
            )
    return UnreachableHubError(
        f"{name}: not on this machine, and no connection to {endpoint} ({_first_line(error)}); "
        "check the network, and HF_ENDPOINT if it is set"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
