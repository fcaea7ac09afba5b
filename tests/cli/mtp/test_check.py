from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nextn.tools.check import Verdict
from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import TinyHead, write_tiny_model
from tests.tools.check.planting import Tensors, replant

PROJECT = "blk.1.nextn.eh_proj.weight"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trunk of one block whose head is a copy of it, so that it foresees nearly everything."""
    path = tmp_path_factory.mktemp("check") / "copied.gguf"
    head = TinyHead(noise=0.05)
    write_tiny_model(path, "llama", layers=1, context_length=1024, tied=False, head=head)
    return path


def negate(tensors: Tensors) -> None:
    tensors[PROJECT] = np.negative(tensors[PROJECT])


OPTIONS = ("--categories", "qa", "-n", 24, "-t", 1, "-q")


def test_the_text_tells_the_verdict(cli: RunCli, copied: Path) -> None:
    result = cli("mtp", "check", copied, *OPTIONS)
    assert result.exit_code == 0, result.output
    assert "HEALTHY" in result.stdout
    assert "without its attention" in result.stdout
    assert "recommended" in result.stdout


def test_the_record_tells_the_verdict(cli: RunCli, copied: Path, tmp_path: Path) -> None:
    ill = replant(copied, tmp_path / "ill.gguf", negate)
    result = cli("mtp", "check", ill, *OPTIONS, "--json")
    record = json.loads(result.stdout)
    assert result.exit_code == record["exit_status"] == Verdict.BROKEN.exit_status
    assert record["verdict"] == "broken"
    assert record["findings"][0]["code"] == "negated"


def test_the_page_tells_the_verdict(cli: RunCli, copied: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ill = replant(copied, tmp_path / "ill.gguf", negate)
    page = tmp_path / "ill.html"
    result = cli("mtp", "check", ill, *OPTIONS, "--html", page)
    assert result.exit_code == Verdict.BROKEN.exit_status
    shown = page.read_text(encoding="utf-8")
    assert "broken" in shown
    assert "<svg" in shown
    for outside in ('src="', "<script", "<link", "@import", 'href="http'):
        assert outside not in shown


def test_numbers_that_are_none_are_null(cli: RunCli, copied: Path, tmp_path: Path) -> None:
    def damage(tensors: Tensors) -> None:
        tensors[PROJECT][3, 4] = np.nan

    ill = replant(copied, tmp_path / "ill.gguf", damage)
    result = cli("mtp", "check", ill, "--json", "-q")
    assert result.exit_code == Verdict.BROKEN.exit_status

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    record = json.loads(result.stdout, parse_constant=refuse)
    assert next(one["mean"] for one in record["tensors"] if not one["finite"]) is None


def test_statuses_are_those_that_the_help_page_documents(cli: RunCli) -> None:
    assert {str(one): one.exit_status for one in Verdict} == {
        "healthy": 0,
        "weak": 3,
        "dead": 4,
        "absent": 5,
        "broken": 6,
    }
    text = " ".join(cli("mtp", "check", "--help").stdout.split())
    for verdict in Verdict:
        assert f"{verdict.exit_status} {verdict}" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--html", "page.txt"), "does not end in .html"),
        (("--html", "/nowhere/page.html"), "there is no folder"),
        (("--categories", "poems"), "there is no prompt category 'poems'"),
        (("--prompts", 0), "at least 1"),
        (("--head", "/nowhere/head.gguf"), "/nowhere/head.gguf"),
    ],
)
def test_what_is_not_possible_is_refused_at_once(
    cli: RunCli, copied: Path, arguments: tuple[object, ...], said: str
) -> None:
    result = cli("mtp", "check", copied, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
