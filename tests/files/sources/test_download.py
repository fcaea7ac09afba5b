"""Downloads from a web server that breaks off, refuses, forgets and lies."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files.sources.download import (
    ATTEMPTS,
    UnusableAddressError,
    download,
    file_sha256,
)
from tests.files.sources.servers import Site, serve

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(Site({"/model": CONTENT})) as site:
        yield site


class Fetch:
    """Downloads /model and remembers what was reported."""

    def __init__(self, site: Site, target: Path) -> None:
        self.site = site
        self.target = target
        self.part = target.with_name(target.name + ".part")
        self.reports: list[tuple[int, int | None]] = []
        self.pauses: list[float] = []

    def __call__(self, path: str = "/model", sha256: str | None = SHA256) -> None:
        download(
            self.site.url + path,
            self.target,
            sha256=sha256,
            report=lambda done, total: self.reports.append((done, total)),
            pause=self.pauses.append,
        )


@pytest.fixture
def fetch(site: Site, tmp_path: Path) -> Fetch:
    return Fetch(site, tmp_path / "target")


def test_a_file_arrives_with_reports_of_its_bytes(fetch: Fetch) -> None:
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert fetch.reports[-1] == (len(CONTENT), len(CONTENT))
    assert not fetch.part.exists()
    assert not fetch.pauses


def test_a_broken_connection_is_continued_where_it_stopped(fetch: Fetch, site: Site) -> None:
    site.break_after = [300_000, 200_000]
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert site.requested_ranges == ["", "bytes=300000-", "bytes=500000-"]
    assert len(fetch.pauses) == 2


def test_a_server_without_ranges_sends_everything_again(fetch: Fetch, site: Site) -> None:
    site.knows_ranges = False
    site.break_after = [300_000]
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert site.requested_ranges == ["", "bytes=300000-"]


def test_the_rest_of_an_earlier_download_is_fetched(fetch: Fetch, site: Site) -> None:
    fetch.part.write_bytes(CONTENT[:1000])
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert site.requested_ranges == ["bytes=1000-"]


def test_an_earlier_download_of_another_file_is_replaced(fetch: Fetch, site: Site) -> None:
    fetch.part.write_bytes(b"other" * 100)
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert site.requested_ranges == ["bytes=500-", ""]


def test_an_earlier_download_that_is_too_long_is_replaced(fetch: Fetch, site: Site) -> None:
    fetch.part.write_bytes(bytes(len(CONTENT) + 1))
    fetch()
    assert fetch.target.read_bytes() == CONTENT


def test_a_whole_earlier_download_needs_no_server(fetch: Fetch, site: Site) -> None:
    fetch.part.write_bytes(CONTENT)
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert site.requested_ranges == []


def test_a_server_that_continues_at_another_place_is_not_believed(fetch: Fetch, site: Site) -> None:
    fetch.part.write_bytes(CONTENT[:1000])
    site.shift_ranges_by = 7
    with pytest.raises(SourceError, match="another part than was asked for"):
        fetch()
    assert not fetch.target.exists()


def test_a_wrong_checksum_leaves_no_file(fetch: Fetch) -> None:
    with pytest.raises(SourceError, match=f"SHA-256 of the download is not {'0' * 64}"):
        fetch(sha256="0" * 64)
    assert list(fetch.target.parent.iterdir()) == []


def test_a_server_that_is_busy_is_asked_again(fetch: Fetch, site: Site) -> None:
    site.answers = [503, 429]
    fetch()
    assert fetch.target.read_bytes() == CONTENT
    assert fetch.pauses == [0.5, 1.0]


def test_a_connection_that_keeps_breaking_keeps_what_it_brought(fetch: Fetch, site: Site) -> None:
    site.break_after = [1000] * ATTEMPTS
    with pytest.raises(SourceError, match="goes on where it stopped"):
        fetch()
    assert not fetch.target.exists()
    assert fetch.part.read_bytes() == CONTENT[: 1000 * ATTEMPTS]


def test_a_refusal_is_left_to_another_program(fetch: Fetch) -> None:
    with pytest.raises(UnusableAddressError, match="404"):
        fetch("/missing")
    assert not fetch.part.exists()


def test_a_full_disk_is_told_and_leaves_no_target(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(fetch.part))

    monkeypatch.setattr("nextn.files.sources.download._receive", full)
    with pytest.raises(SourceError, match="the disk is full; make room"):
        fetch()
    assert not fetch.target.exists()


def test_an_address_of_a_file_is_read(fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    download((tmp_path / "source").as_uri(), fetch.target, sha256=SHA256, report=lambda *_: None)
    assert file_sha256(fetch.target) == SHA256
