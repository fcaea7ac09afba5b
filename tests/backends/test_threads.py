from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nextn.backends.cpu.threads import _group_limit, check_threads, default_threads
from nextn.errors import RequestError
from tests.support.system_files import write_files


def test_the_default_is_within_what_the_process_may_use() -> None:
    assert 1 <= default_threads() <= len(os.sched_getaffinity(0))


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert _group_limit(tmp_path) is None


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("max 100000", "max 100000", None),
        ("400000 100000", "max 100000", 4),
        ("400000 100000", "250000 100000", 2),  # the parent's holds, too
        ("50000 100000", "max 100000", 1),  # half a processor is still one thread
        ("nonsense", "300000 100000", 3),
    ],
)
def test_every_group_of_version_2_limits_the_threads(
    tmp_path: Path, own: str, parent: str, expected: int | None
) -> None:
    files = {
        "proc/self/cgroup": "0::/service/job\n",
        "sys/fs/cgroup/service/job/cpu.max": f"{own}\n",
        "sys/fs/cgroup/service/cpu.max": f"{parent}\n",
    }
    assert _group_limit(write_files(tmp_path, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", None), ("300000", 3)])
def test_groups_of_version_1_limit_the_threads_too(
    tmp_path: Path, quota: str, expected: int | None
) -> None:
    group = "sys/fs/cgroup/cpu,cpuacct/docker/abc"
    files = {
        "proc/self/cgroup": "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
        f"{group}/cpu.cfs_quota_us": f"{quota}\n",
        f"{group}/cpu.cfs_period_us": "100000\n",
    }
    assert _group_limit(write_files(tmp_path, files)) == expected


@pytest.mark.parametrize("threads", [0, -1, 1 << 20, 1.5, "2", None, True])
def test_an_impossible_number_of_threads_is_refused(threads: object) -> None:
    with pytest.raises(RequestError, match="this machine has 1 to"):
        check_threads(threads)  # type: ignore[arg-type]


def test_any_integer_is_a_number_of_threads() -> None:
    assert check_threads(np.int64(1)) == 1  # type: ignore[arg-type]
