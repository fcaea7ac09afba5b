"""How many threads to compute with."""

from __future__ import annotations

import math
import operator
import os
from pathlib import Path

from nextn.errors import RequestError

_CPU_FOLDER = Path("/sys/devices/system/cpu")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def default_threads() -> int:
    """One thread for each physical core that this process may use, within its cgroup's limit."""
    allowed = sorted(os.sched_getaffinity(0))
    cores = {_core_of(cpu) for cpu in allowed}
    return max(1, min(len(cores), _cgroup_limit() or len(cores)))


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


def _cgroup_limit() -> int | None:
    """Whole processors that the control group (version 2) grants; None without a limit."""
    try:
        quota, period = _CGROUP_LIMIT.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, math.floor(int(quota) / int(period)))
