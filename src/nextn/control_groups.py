"""The control groups that this process is in, which containers and services are limited by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_UNIFIED_MOUNTS = ("sys/fs/cgroup", "sys/fs/cgroup/unified")


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[int, Path]]:
    """The groups that contain this process: a limit of each of them holds.

    Args:
        controller: such as "memory" or "cpu".
        root: where `proc` and `sys` are.

    Yields:
        The version of the group, 2 or 1, and its folder; each group before its parents. A folder
        need not exist: inside a container the path may be the host's, and only the last is real.
    """
    unified, own, mounts = _paths(root, controller)
    for version, path, folders in ((2, unified, _UNIFIED_MOUNTS), (1, own, mounts)):
        for mount in folders:
            folder = root / mount / path
            for group in (folder, *folder.parents):
                yield version, group
                if group == root / mount:
                    break


def read_text(path: Path) -> str:
    """The contents of a file; nothing if it cannot be read, as systems differ in what they have."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _paths(root: Path, controller: str) -> tuple[str, str, tuple[str, ...]]:
    """The process's group in versions 2 and 1, relative to its mount; and the mounts of 1."""
    unified = own = ""
    mounts: tuple[str, ...] = (f"sys/fs/cgroup/{controller}",)
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            unified = group.strip("/")
        elif controller in controllers.split(","):
            own = group.strip("/")
            # Controllers that share a hierarchy are mounted together, with or without a link.
            mounts = tuple(dict.fromkeys((*mounts, f"sys/fs/cgroup/{controllers}")))
    return unified, own, mounts
