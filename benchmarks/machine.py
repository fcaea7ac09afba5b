"""What the figures were measured on: the description that every result file carries."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """Name of the processor, as Linux reports it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def package_version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """Machine, versions and commit."""
    from nextn import _native

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "commit": commit or None,
        "processor": processor(),
        "cores": os.cpu_count(),
        "kernels": _native.available_kernels()[0],
        "python": platform.python_version(),
        "llama-cpp-python": package_version("llama-cpp-python"),
        "ik-llama-cpp-python": package_version("ik-llama-cpp-python"),
        "numpy": package_version("numpy"),
    }


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Write `results/NAME.json` with the machine's description in front."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": describe(), **result}, indent=2) + "\n")
    return path
