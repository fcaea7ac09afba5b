from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextn.bench.mtp import DifferentTextError
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


TASKS = ("--mtp", "--categories", "chat,qa", "--prompts", 1, "-n", 8, "-t", 1)


def test_tasks_are_compared(cli: RunCli, tiny: Path) -> None:
    result = cli("bench", tiny, *TASKS, "--draft-depths", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("tiny: cpu (")
    begins = [line.split()[0] for line in result.stdout.splitlines()[3:] if line]
    settings = ["off", "2", "auto"]
    assert begins == ["CHAT", *settings, "QA", *settings, "ALL", *settings]
    assert "measuring tiny: 6 of 6 texts" in result.stderr


def test_tasks_as_json_and_as_a_picture(cli: RunCli, tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "tasks.svg"
    result = cli("bench", tiny, *TASKS, "--temp", 0.7, "-q", "--json", "--plot", path)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["settings"]["temperature"] == 0.7
    assert [one["draft"] for one in found["results"][:8]] == ["off", 1, 2, 3, 4, 6, 8, "auto"]
    assert len(found["texts"]) == 16
    assert path.read_bytes().startswith(b"<?xml")


def test_different_texts_fail_loudly(
    cli: RunCli, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differ(*_: object) -> None:
        raise DifferentTextError("[bench] the text differs")

    monkeypatch.setattr("nextn.bench.mtp.measure", differ)
    result = cli("bench", tiny, *TASKS, "-q")
    assert result.exit_code == 70
    assert result.stdout == ""
    assert "the text differs; this is a defect of nextn" in result.stderr


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
        (("--mtp", "--rows", 4), "--rows and --mtp exclude each other"),
        (("--mtp", "-p", 512), "-p and --mtp exclude each other"),
        (("--prompts", 2), "--prompts needs --mtp"),
        (("--mtp", "--categories", "poems"), "there is no prompt category 'poems'"),
        (("--mtp", "--draft-depths", 0), "--draft-depths: 0 is not possible; allowed: 1 to 16"),
        (("--mtp", "--plot", "tasks.pdf"), "'tasks.pdf' does not end in .svg or .png"),
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
