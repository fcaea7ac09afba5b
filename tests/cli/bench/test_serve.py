from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli
from tests.support.chat_server import Script, running, scripted_app

QUICK = ("--requests", 2, "--rounds", 1, "--concurrency", "1,2", "--categories", "chat", "-n", 4)


@pytest.fixture
def script() -> Script:
    return Script(steps=((("One", "trunk"),), ((" two", "head"), (" three", "trunk"))))


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with running(scripted_app(script)) as address:
        yield address


def test_a_server_is_measured(cli: RunCli, url: str) -> None:
    result = cli("bench", "serve", "--url", url, *QUICK)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"tiny at {url}v1: 2 or more requests of each load and side")
    assert [line.split()[:4] for line in lines[-4:]] == [
        [load, "mtp", draft, f"{count}/{count}"]
        for load, count in (("1", 3), ("2", 6))
        for draft in ("off", "auto")
    ]
    assert "measuring tiny" in result.stderr


def test_a_server_that_wants_a_key_says_so(cli: RunCli, url: str, script: Script) -> None:
    script.api_key = "secret"
    result = cli("bench", "serve", "--url", url, *QUICK)
    assert result.exit_code == 2
    assert "status 401: wrong key" in result.stderr


def test_a_key_a_peer_and_a_rate(cli: RunCli, url: str, script: Script, tmp_path: Path) -> None:
    script.api_key = "secret"
    key = tmp_path / "key.txt"
    key.write_text("secret\nother\n")
    with running(scripted_app(Script(steps=script.steps))) as peer:
        result = cli(
            "bench", "serve", "--url", url, "--api-key-file", key, "--peer", peer, "--rate", "200",
            "--requests", 2, "--mtp", "auto,2", "--goodput", "ttft:60000", "-q", "--json",
        )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert [one["side"] for one in record["results"]] == ["mtp auto", "mtp 2", "peer"]
    assert {one["rate"] for one in record["results"]} == {200.0}
    assert record["settings"]["limits"] == {"ttft": 60.0}
    assert all(one["goodput"] > 0 for one in record["results"])
    assert record["peer"] == f"{peer}v1"


def test_markdown_and_a_picture(cli: RunCli, url: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "load.png"
    result = cli("bench", "serve", "--url", url, "-q", "--md", "--plot", path, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert "| AT A TIME | SIDE | ANSWERED |" in result.stdout
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "nowhere"), "'nowhere' is no address such as"),
        (("--url", "http://127.0.0.1:1"), "cannot be reached"),
        (("--concurrency", "0"), "--concurrency: 0 is not possible"),
        (("--concurrency", "a"), "'a' is not a list of numbers"),
        (("--rate", "x"), "'x' is not a list of numbers such as 0.5,2"),
        (("--rate", "1", "--concurrency", "1"), "--concurrency and --rate exclude each other"),
        (("--mtp", "on"), "'on' is not off, auto or a number"),
        (("--mtp", ""), "--mtp: give different settings"),
        (("--goodput", "ttft"), "'ttft' is not a limit such as ttft:500"),
        (("--goodput", "itl:5"), "there is no 'itl'; use ttft, tpot, e2e"),
        (("--json", "--md"), "--json and --md exclude each other"),
        (("--plot", "load.pdf"), "'load.pdf' does not end in .svg or .png"),
        (("model",), "unexpected extra argument"),
    ],
)
def test_mistakes_are_said_in_one_line(
    cli: RunCli, arguments: tuple[object, ...], message: str
) -> None:
    result = cli("bench", "serve", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("nextn: error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_help_page_names_the_whole_command(cli: RunCli) -> None:
    assert "bench serve [OPTIONS]" in cli("bench", "serve", "--help").stdout.splitlines()[0]
    assert "nextn bench serve" in cli("bench", "--help").stdout
