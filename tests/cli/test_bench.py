from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli

QUICK = ("-p", 16, "-n", 2, "-d", "0,32", "-b", "1,2", "--rows", 3, "-r", 1, "-t", 1, "-q")


def test_every_case_is_in_the_table(cli: RunCli, tiny: Path) -> None:
    result = cli("bench", tiny, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    begins = [line.split("  ")[0] for line in result.stdout.splitlines()]
    for name in ("pp16", "tg2", "tg2 b2", "pp16 @ d32", "tg2 @ d32", "ROWS", "ROWS @ d32", "3"):
        assert name in begins
    assert result.stdout.startswith("tiny: llama F32")
    assert "\nlimit: reading " in result.stdout


def test_json_is_one_object(cli: RunCli, tiny: Path) -> None:
    result = cli("bench", tiny, *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["model"]["backend"] == "cpu"
    assert found["limits"]["bandwidth"] > 0
    assert len(found["tests"]) == 5
    assert [one["tokens"] for one in found["verification"]] == [1, 2, 3] * 2
    assert all(one["median_seconds"] > 0 for one in found["tests"] + found["verification"])


def test_markdown_and_progress(cli: RunCli, tiny: Path) -> None:
    quick = [word for word in QUICK if word != "-q"]
    result = cli("bench", "-m", tiny, *quick, "--md")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("| model | size |")
    assert "measuring tiny: " in result.stderr
    assert " tokens\n" in result.stderr


def test_the_reference_is_measured_without_limits(cli: RunCli, tiny: Path) -> None:
    arguments = ("-p", 4, "-n", 0, "-d", 0, "--rows", 0, "-r", 1, "--backend", "reference")
    result = cli("bench", tiny, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "limit:" not in result.stdout


def test_the_curve_is_drawn(cli: RunCli, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "curve.svg"
    result = cli("bench", tiny, "-p", 0, "-n", 0, *QUICK[4:], "--plot", path)
    assert result.exit_code == 0, result.stderr
    assert path.read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one model"),
        (("-d", "0,x"), "'0,x' is not a list of numbers"),
        (("-d", ""), "-d: no depth"),
        (("-r", 0), "-r: 0 is not possible"),
        (("--rows", 100), "--rows: 100 is not possible; allowed: 0 to 64"),
        (("--json", "--md"), "--json and --md exclude each other"),
        (("--plot", "curve.txt"), "'curve.txt' does not end in .svg or .png"),
        (("--plot", "curve.svg", "--rows", 0), "--rows 0 leaves out"),
        (("-d", 500), "pp512 @ d500 needs a context of 1,012 tokens"),
    ],
)
def test_mistakes_are_said_in_one_line(
    cli: RunCli, tiny: Path, arguments: tuple[object, ...], message: str
) -> None:
    model = (tiny,) if arguments else ()
    result = cli("bench", *model, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("nextn: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
