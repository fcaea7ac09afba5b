from __future__ import annotations

from pathlib import Path

import pytest

from nextn.engine.memory import MemoryNeed, available_memory, check_memory
from nextn.errors import MemoryLimitError
from tests.support.system_files import write_files

MB = 1_000_000


def test_the_machine_is_the_limit_without_control_groups(tmp_path: Path) -> None:
    files = {"proc/meminfo": "MemTotal:  9000 kB\nMemAvailable:  5000 kB\n"}
    assert available_memory(write_files(tmp_path, files)) == 5000 * 1024


def test_nothing_is_known_where_the_system_says_nothing(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [("max", "max", 9_000_000 * 1024), ("5000", "max", 4300), ("5000", "2000", 1250)],
)
def test_every_group_of_version_2_up_to_the_root_counts(
    tmp_path: Path, own: str, parent: str, expected: int
) -> None:
    files = {
        "proc/meminfo": "MemAvailable:  9000000 kB\n",
        "proc/self/cgroup": "0::/user.slice/job\n",
        "sys/fs/cgroup/user.slice/job/memory.max": f"{own}\n",
        "sys/fs/cgroup/user.slice/job/memory.current": "1000\n",
        "sys/fs/cgroup/user.slice/job/memory.stat": "inactive_file 200\nactive_file 100\n",
        "sys/fs/cgroup/user.slice/memory.max": f"{parent}\n",
        "sys/fs/cgroup/user.slice/memory.current": "1100\n",
        "sys/fs/cgroup/user.slice/memory.stat": "inactive_file 250\nactive_file 100\n",
    }
    assert available_memory(write_files(tmp_path, files)) == expected


def test_groups_of_version_1_count_too(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/docker/abc"
    files = {
        "proc/meminfo": "MemAvailable:  9000000 kB\n",
        "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/abc\n0::/\n",
        f"{group}/memory.limit_in_bytes": "8000\n",
        f"{group}/memory.usage_in_bytes": "3000\n",
        f"{group}/memory.stat": "cache 1\ninactive_file 7\ntotal_inactive_file 500\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "100\n",
    }
    assert available_memory(write_files(tmp_path, files)) == 5500


def test_inside_a_container_the_mount_itself_is_the_group(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/../host/path\n",
        "sys/fs/cgroup/memory.max": "8000\n",
        "sys/fs/cgroup/memory.current": "3000\n",
    }
    assert available_memory(write_files(tmp_path, files)) == 5000


def test_this_machine_says_something_sensible() -> None:
    available = available_memory()
    assert available is None or available > MB


def test_a_model_that_fits_passes_and_so_does_an_unknown_limit() -> None:
    need = MemoryNeed(600 * MB, 300 * MB, 100 * MB)
    check_memory(Path("m.gguf"), need, 1000 * MB, 4096)
    check_memory(Path("m.gguf"), need, None, 4096)


def test_a_model_that_does_not_fit_is_refused_with_a_context_that_does() -> None:
    need = MemoryNeed(600 * MB, 400 * MB, 100 * MB)
    with pytest.raises(MemoryLimitError) as error:
        check_memory(Path("m.gguf"), need, 950 * MB, 4096)
    message = str(error.value)
    assert "m.gguf: needs 1,100 MB" in message
    assert "950 MB are available" in message
    assert "context=2560" in message  # 250 of 400 MB
    check_memory(Path("m.gguf"), MemoryNeed(600 * MB, 250 * MB, 100 * MB), 950 * MB, 2560)


def test_without_any_context_that_fits_the_advice_is_a_smaller_model() -> None:
    need = MemoryNeed(600 * MB, 400 * MB, 100 * MB)
    with pytest.raises(MemoryLimitError, match="smaller model"):
        check_memory(Path("m.gguf"), need, 710 * MB, 4096)
