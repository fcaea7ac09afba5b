from __future__ import annotations

import json
import platform
import re
from pathlib import Path

import pytest

from nextn import _native
from tests.cli.conftest import RunCli


def test_the_block_holds_what_a_report_needs(cli: RunCli, tmp_path: Path) -> None:
    facts = json.loads(cli("env", "--json").stdout)
    assert facts["python"].startswith(platform.python_version())
    assert facts["kernels"].split()[0] == _native.available_kernels()[0]
    assert facts["numpy"].split(".")[0].isdigit()
    for name in ("nextn", "platform", "processor", "cores", "threads", "memory", "control group"):
        assert facts[name]
    assert str(tmp_path / "cache") in facts["models"]
    page = cli("env").stdout
    assert all(fact in page for fact in facts.values())


def test_the_home_folder_is_not_told(cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("NEXTN_CACHE", "/home/somebody/models")
    page = cli("env").stdout
    assert "somebody" not in page
    assert "~/models" in page


def test_a_native_module_that_does_not_load_is_reported(
    cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("nextn._native")
    monkeypatch.setitem(__import__("sys").modules, "nextn._native", None)
    result = cli("env")
    assert result.exit_code == 0
    assert re.search(r"^kernels +none: ", result.stdout, re.MULTILINE)
