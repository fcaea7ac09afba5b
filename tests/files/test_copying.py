from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files import copying
from nextn.files.copying import WriteBehind, copy_range, data_ranges

HOLE = 1 << 20


def sparse(path: Path) -> bytes:
    """A file of: text, a hole, text, a hole."""
    with path.open("wb") as file:
        file.write(b"begin" * 1000)
        file.seek(HOLE)
        file.write(b"middle" * 1000)
        file.truncate(2 * HOLE)
    return path.read_bytes()


def copied(
    source: Path, target: Path, offset: int, count: int, before: bytes = b"before"
) -> tuple[bytes, int, list[int]]:
    told: list[int] = []
    with source.open("rb", buffering=0) as reader, target.open("wb") as writer:
        writer.write(before)
        copy_range(reader, offset, count, writer, told.append)
        assert writer.tell() == len(before) + count
        writer.write(b"after")
    return target.read_bytes(), target.stat().st_blocks * 512, told


def without_kernel(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Make the kernel's copy missing, refused, or useless."""
    if kind == "missing":
        monkeypatch.delattr(os, "copy_file_range")
        monkeypatch.delattr(os, "SEEK_DATA")
    elif kind == "refused":

        def refuse(*_: object) -> int:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    elif kind == "useless":
        monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)


@pytest.mark.parametrize("kernel", ["there", "missing", "refused", "useless"])
@pytest.mark.parametrize(
    ("offset", "count"),
    [(0, 2 * HOLE), (3, 4000), (4000, HOLE), (HOLE - 5, 20), (10_000, 700), (2 * HOLE - 9, 9)],
)
def test_a_copy_has_the_bytes_of_the_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, offset: int, count: int
) -> None:
    content = sparse(tmp_path / "source")
    without_kernel(monkeypatch, kernel)
    monkeypatch.setattr(copying, "_BUFFER_BYTES", 1000)
    # The kernel copies where the pages of both files are the same.
    for before in (b"before", b"x" * (offset % 4096)):
        found, _, told = copied(tmp_path / "source", tmp_path / "target", offset, count, before)
        assert found == before + content[offset : offset + count] + b"after"
        assert sum(told) == count


def test_whole_pages_are_left_to_the_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sparse(tmp_path / "source")
    monkeypatch.setattr(os, "preadv", lambda *_: pytest.fail("bytes were read"))
    found, _, _ = copied(tmp_path / "source", tmp_path / "target", 4, 4000, b"four")
    assert found == b"four" + content[4:4004] + b"after"


def test_holes_stay_holes(tmp_path: Path) -> None:
    sparse(tmp_path / "source")
    if (tmp_path / "source").stat().st_blocks * 512 >= HOLE:
        pytest.skip("this file system has no holes")
    _, stored, _ = copied(tmp_path / "source", tmp_path / "target", 0, 2 * HOLE)
    assert stored < HOLE // 4
    with (tmp_path / "source").open("rb", buffering=0) as file:
        ranges = list(data_ranges(file, 0, 2 * HOLE))
    assert [start for start, _ in ranges] == [0, HOLE]
    assert sum(size for _, size in ranges) < HOLE // 4


@pytest.mark.parametrize("kernel", ["there", "missing"])
def test_a_source_that_became_shorter_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    (tmp_path / "source").write_bytes(bytes(range(100)))
    without_kernel(monkeypatch, kernel)
    with pytest.raises(SourceError, match="source: became shorter"):
        copied(tmp_path / "source", tmp_path / "target", 50, 51)


def test_the_disk_is_asked_once_for_every_byte_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def advise(descriptor: int, start: int, count: int, _: int) -> None:
        assert os.fstat(descriptor).st_size >= start + count  # what is still in a buffer is not
        asked.append((start, count))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(copying, "_WRITE_BEHIND_BYTES", 4000)
    with (tmp_path / "file").open("wb") as file, WriteBehind(file) as behind:
        for _ in range(10):
            file.write(bytes(1700))
            behind.advance()
    assert asked == [(0, 5100), (5100, 5100), (10_200, 5100)]


def test_a_file_is_stored_without_advice_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fadvise")
    monkeypatch.setattr(copying, "_WRITE_BEHIND_BYTES", 4)
    with (tmp_path / "file").open("wb") as file, WriteBehind(file) as behind:
        file.write(b"content")
        behind.advance()
    assert (tmp_path / "file").read_bytes() == b"content"
