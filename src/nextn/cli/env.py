"""`nextn env`: a block about this machine and installation, for reports of defects."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

from nextn.cli.command import Verb, debug_option, option
from nextn.cli.text import bytes_text, one_line, table
from nextn.control_groups import read_text

_PACKAGE = re.compile(r"[A-Za-z0-9._-]+")
_PREFIX = "NEXTN_"


@click.command(cls=Verb, name="env")
@option(None, "--json", "as_json", is_flag=True, help="Write one JSON object.")
@debug_option
def command(as_json: bool) -> None:
    """Show version, machine and installation, to be pasted into a report."""
    facts = {title: one_line(_without_home(text)) for title, text in _facts()}
    click.echo(json.dumps(facts, indent=2) if as_json else table(list(facts.items())))


def nextn_version() -> str:
    """The installed version of nextn."""
    return _version("nextn")


def _facts() -> Iterator[tuple[str, str]]:
    yield "nextn", nextn_version()
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "platform", platform.platform()
    yield "libc", " ".join(platform.libc_ver()) or "unknown"
    yield "processor", _processor()
    yield "kernels", _kernels()
    yield "cores", _cores()
    yield "threads", _threads()
    yield "memory", _memory()
    yield "control group", _control_group()
    for name in _dependencies():
        yield name, _version(name)
    yield "models", _models()
    for name in sorted(os.environ):
        if name.startswith(_PREFIX):
            yield name, os.environ[name]


def _processor() -> str:
    for line in read_text(Path("/proc/cpuinfo")).splitlines():
        title, _, text = line.partition(":")
        if title.strip() == "model name":
            return text.strip()
    return platform.processor() or platform.machine()


def _kernels() -> str:
    """The kernel set that will run, and the others that this processor could run."""
    try:
        from nextn import _native

        best, *others = _native.available_kernels()
    except ImportError as error:
        return f"none: {error}"
    return f"{best} (also: {', '.join(others)})" if others else best


def _cores() -> str:
    logical = os.cpu_count() or 0
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    return f"{logical} logical" + (f", {allowed} of them allowed" if allowed != logical else "")


def _threads() -> str:
    try:
        from nextn.backends.cpu.threads import default_threads
    except ImportError as error:
        return f"unknown: {error}"
    return f"{default_threads()} by default"


def _memory() -> str:
    from nextn.engine.memory import available_memory

    match = re.search(r"^MemTotal:\s*(\d+) kB", read_text(Path("/proc/meminfo")), re.MULTILINE)
    installed = bytes_text(int(match[1]) * 1024) if match else "unknown"
    available = available_memory()
    return f"{installed}, {'unknown' if available is None else bytes_text(available)} available"


def _control_group() -> str:
    """Limits of the control group, versions 2 and 1."""
    root = Path("/sys/fs/cgroup")
    limits = {
        "cpu.max": root / "cpu.max",
        "memory.max": root / "memory.max",
        "cpu.cfs_quota_us": root / "cpu/cpu.cfs_quota_us",
        "memory.limit_in_bytes": root / "memory/memory.limit_in_bytes",
    }
    found = [f"{name} {text}" for name, path in limits.items() if (text := read_text(path).strip())]
    return ", ".join(found) or "no limits known"


def _models() -> str:
    from nextn.errors import NextnError
    from nextn.files.sources import list_local, models_directory

    try:
        names = [model.name for model in list_local()]
    except NextnError as error:
        return str(error)
    return f"{models_directory()} ({', '.join(names) or 'empty'})"


def _dependencies() -> list[str]:
    """The packages that nextn itself needs."""
    try:
        required = metadata.requires("nextn") or []
    except metadata.PackageNotFoundError:
        required = ["numpy", "tokenizers"]
    found = (_PACKAGE.match(line) for line in required if "extra ==" not in line)
    return [match[0] for match in found if match]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _without_home(text: str) -> str:
    """Reports are public; the name of the user is nobody's business."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 and sys.platform != "win32" else text
