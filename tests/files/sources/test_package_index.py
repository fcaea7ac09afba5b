"""How pip is asked, and how its answers are understood."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from nextn.errors import SourceError
from nextn.files.sources.package_index import IndexEntry, Pip


class FakePip:
    """Answers every call with one result, and remembers the arguments."""

    def __init__(self, stdout: str = "", stderr: str = "", status: int = 0) -> None:
        self.stdout, self.stderr, self.status = stdout, stderr, status
        self.arguments: list[str] = []

    def __call__(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.arguments = list(arguments)
        return subprocess.CompletedProcess(arguments, self.status, self.stdout, self.stderr)


def report(url: str, **archive: object) -> str:
    return json.dumps({"install": [{"download_info": {"url": url, "archive_info": archive}}]})


def test_address_and_checksum_are_taken_from_the_report() -> None:
    url = "https://files.example/a%2Bb-1.0-py3-none-any.whl"
    pip = FakePip(report(url, hashes={"sha256": "AB" * 32}))
    assert Pip(pip).locate("a==1.0") == IndexEntry(url, "ab" * 32, "a+b-1.0-py3-none-any.whl")
    # Nothing is built and nothing else is fetched.
    assert {"--dry-run", "--no-deps", "--only-binary"} <= set(pip.arguments)
    assert pip.arguments[-1] == "a==1.0"


def test_an_index_need_not_state_a_checksum() -> None:
    assert Pip(FakePip(report("file:///a-1.0-py3-none-any.whl"))).locate("a==1").sha256 is None


@pytest.mark.parametrize("answer", ["", "{}", "[]", '{"install": []}', '{"install": [{}]}'])
def test_an_answer_that_is_no_report_is_refused(answer: str) -> None:
    with pytest.raises(SourceError, match="the answer of pip is not understood"):
        Pip(FakePip(answer)).locate("a==1")


def test_a_source_archive_is_refused() -> None:
    with pytest.raises(SourceError, match="which is not a wheel"):
        Pip(FakePip(report("https://files.example/a-1.0.tar.gz"))).locate("a==1.0")


COMPLAINTS = {
    "No module named pip": "ensurepip",
    "ERROR: no such option: --report": "older than 22.2",
    "Caused by NewConnectionError": "index cannot be reached",
    "ERROR: No matching distribution found for a==1": "not found on the package index",
    "warning\nERROR: strange\nmore": "pip failed: ERROR: strange",
    "": "pip failed: status 1",
}


@pytest.mark.parametrize(("stderr", "reason"), COMPLAINTS.items())
def test_complaints_become_one_line_with_advice(stderr: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason) as caught:
        Pip(FakePip(stderr=stderr, status=1)).locate("a==1")
    assert "\n" not in str(caught.value)


def test_a_download_gives_the_one_wheel(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="0 wheels, not one"):
        Pip(FakePip()).download("a==1", tmp_path)
    (tmp_path / "a.whl").touch()
    assert Pip(FakePip()).download("a==1", tmp_path) == tmp_path / "a.whl"
