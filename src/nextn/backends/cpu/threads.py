"""How many threads to compute with."""

from __future__ import annotations

import operator
import os
from pathlib import Path

from nextn.control_groups import control_groups, read_text
from nextn.errors import RequestError

_CPU_FOLDER = Path("/sys/devices/system/cpu")


def default_threads() -> int:
    """One thread for each physical core that this process may use, within its groups' limits."""
    allowed = sorted(os.sched_getaffinity(0))
    cores = {_core_of(cpu) for cpu in allowed}
    return max(1, min(len(cores), _group_limit() or len(cores)))


def check_threads(threads: int) -> int:
    """Check a number of threads that a user asked for.

    Raises:
        RequestError: no integer, less than one, or more than the machine has.
    """
    available = os.cpu_count() or 1
    try:
        # NumPy's integers are integers, too; a truth value is a mistake.
        number = 0 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        number = 0
    if not 1 <= number <= available:
        raise RequestError(
            f"threads: {threads!r} is not possible; this machine has 1 to {available}"
        )
    return number


def _core_of(cpu: int) -> tuple[str, str] | int:
    """Package and core of a logical processor; the processor itself where the system is silent."""
    topology = _CPU_FOLDER / f"cpu{cpu}" / "topology"
    try:
        package = (topology / "physical_package_id").read_text().strip()
        return package, (topology / "core_id").read_text().strip()
    except OSError:
        return cpu


def _group_limit(root: Path = Path("/")) -> int | None:
    """Whole processors that the control groups of this process grant; None without a limit.

    Args:
        root: where `proc` and `sys` are.
    """
    limits = []
    for version, group in control_groups("cpu", root):
        if version == 2:
            parts = read_text(group / "cpu.max").split()
        else:
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            parts = [read_text(group / name).strip() for name in files]
        # Without a limit the quota is "max", or -1.
        if len(parts) == 2 and all(part.isdecimal() for part in parts) and int(parts[1]) > 0:
            limits.append(max(1, int(parts[0]) // int(parts[1])))
    return min(limits, default=None)
