from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nextn.cli import application
from nextn.cli.application import VERBS
from tests.cli.conftest import RunCli

HEAVY = ("numpy", "tokenizers", "jinja2", "rich", "nextn.model", "nextn.files")


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from nextn.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(result.stderr.split())


def test_help_names_every_verb(cli: RunCli) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert f"\n  {verb}" in result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_under_both_names(cli: RunCli, verb: str) -> None:
    assert cli(verb, "-h").stdout == cli(verb, "--help").stdout != ""


def test_a_verb_may_be_called_as_in_other_tools(cli: RunCli) -> None:
    assert cli("ls").stdout == cli("list").stdout


def test_the_version_is_shown(cli: RunCli) -> None:
    result = cli("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("nextn ")


@pytest.mark.parametrize(
    "arguments",
    [["sing"], ["run", "--no-such-option"], ["show"], ["show", "a", "b"], ["run", "-n", "many"]],
)
def test_a_wrong_command_line_is_one_line_and_status_2(cli: RunCli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("nextn: error: ")
    assert result.stderr.count("\n") == 1
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    "arguments", [["--debug", "show", "nosuch"], ["show", "nosuch", "--debug"]]
)
def test_debug_adds_the_traceback(cli: RunCli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("nextn: error: 'nosuch'")


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 2, "out of memory"),
        (ZeroDivisionError("one\ntwo"), 70, "ZeroDivisionError: one two; this is a defect"),
    ],
)
def test_every_exception_has_its_status(
    cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("nextn.files.sources.list_local", fail)
    result = cli("list")
    assert result.exit_code == status
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) == (1 if said else 0)


def test_a_closed_pipe_is_quiet(tiny: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "nextn.cli", "run", str(tiny), "hello", "--ignore-eos"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(5)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=20) == 1


def test_a_group_can_be_used_from_other_programs() -> None:
    assert application.main(["list", "--json"], standalone_mode=False) is None


def test_without_a_verb_the_help_page_is_shown(cli: RunCli) -> None:
    result = cli()
    assert result.exit_code == 2
    assert result.stdout.startswith("Usage: ")
    assert result.stderr == ""
    for verb in VERBS:
        assert f"\n  {verb} " in result.output


def test_a_full_disk_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "nextn.cli", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr == "nextn: error: output: No space left on device\n"
