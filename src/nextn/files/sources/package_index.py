"""Asks pip where a package's wheel is, so that the user's mirrors and settings are honoured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from nextn.errors import SourceError

# Wheels only: a source archive would run its own code when it is built.
_WHEELS_ONLY = ("--no-deps", "--only-binary", ":all:", "--no-input", "--retries", "2")
# Nothing is installed, so these rules about where to install do not apply.
_ENVIRONMENT = {
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
_NETWORK_SIGNS = (
    "ConnectionError",
    "ConnectTimeoutError",
    "ProxyError",
    "SSLError",
    "ReadTimeoutError",
    "name resolution",
)


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A wheel on an index: its address, the SHA-256 that the index states if any, its name."""

    url: str
    sha256: str | None
    file_name: str


class PackageIndex(Protocol):
    """Where wheels are found."""

    def locate(self, requirement: str) -> IndexEntry:
        """Find the wheel of "NAME==VERSION"; raises SourceError."""

    def download(self, requirement: str, directory: Path) -> Path:
        """Download that wheel into a directory, without reports; raises SourceError."""


def run_pip(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run this Python's pip and gather what it prints."""
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        env=os.environ | _ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


class Pip:
    """The index that pip is configured for.

    Args:
        run: runs pip with some arguments.
    """

    def __init__(
        self, run: Callable[[Sequence[str]], subprocess.CompletedProcess[str]] = run_pip
    ) -> None:
        self._run = run

    def locate(self, requirement: str) -> IndexEntry:
        """Find the wheel of "NAME==VERSION".

        Raises:
            SourceError: pip is missing or too old, the index cannot be reached, or it has no such
                wheel.
        """
        arguments = ["install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
        output = self._checked(requirement, [*arguments, *_WHEELS_ONLY, requirement])
        try:
            (install,) = json.loads(output)["install"]
            file = install["download_info"]
            url = str(file["url"])
            hashes = file.get("archive_info", {}).get("hashes", {})
            sha256 = str(hashes["sha256"]).lower() if "sha256" in hashes else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(
                f"{requirement}: the answer of pip is not understood ({error!r}); "
                "is it older than 22.2?"
            ) from error
        file_name = unquote(urlsplit(url).path).rsplit("/", 1)[-1]
        if not file_name.endswith(".whl"):
            raise SourceError(f"{requirement}: pip offers {url}, which is not a wheel")
        return IndexEntry(url, sha256, file_name)

    def download(self, requirement: str, directory: Path) -> Path:
        """Download the wheel of "NAME==VERSION" into an empty directory.

        Raises:
            SourceError: as `locate`.
        """
        arguments = ["download", "--quiet", "--dest", str(directory)]
        self._checked(requirement, [*arguments, *_WHEELS_ONLY, requirement])
        wheels = list(directory.glob("*.whl"))
        if len(wheels) != 1:
            raise SourceError(f"{requirement}: pip downloaded {len(wheels)} wheels, not one")
        return wheels[0]

    def _checked(self, requirement: str, arguments: Sequence[str]) -> str:
        result = self._run(arguments)
        if result.returncode == 0:
            return result.stdout
        complaint = result.stderr
        if "No module named pip" in complaint:
            reason = f"pip, which finds packages, is missing; run {sys.executable} -m ensurepip"
        elif "no such option" in complaint:
            reason = "pip is older than 22.2; run pip install --upgrade pip"
        elif any(sign in complaint for sign in _NETWORK_SIGNS):
            reason = "the package index cannot be reached; check the network and pip's settings"
        elif "No matching distribution" in complaint:
            reason = "not found on the package index as a wheel for this machine; check name and "
            reason += "version"
        else:
            lines = [line.strip() for line in complaint.splitlines() if line.strip()]
            errors = [line for line in lines if line.startswith("ERROR")] or lines
            reason = f"pip failed: {errors[-1] if errors else f'status {result.returncode}'}"
        raise SourceError(f"{requirement}: {reason}")
