from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import RunCli
from tests.support.tiny_gguf import write_tiny_model

OPTIONS = ("-c", 16, "-t", 1, "-q")


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    base, other = tmp_path / "base.gguf", tmp_path / "other.gguf"
    write_tiny_model(base, "llama", tied=False)
    write_tiny_model(other, "llama", tied=False, types="Q4_0")
    (tmp_path / "text.txt").write_text("All that glitters is not gold, they say. " * 3)
    return base, other


def test_the_page_shows_all_figures(cli: RunCli, models: tuple[Path, Path]) -> None:
    base, other = models
    text = base.with_name("text.txt")
    result = cli("compare", base, other, "--text", text, *OPTIONS)
    assert result.exit_code == 0, result.stderr
    for title in (
        *("perplexity of base", "perplexity", "KL divergence", "without rounding"),
        *("RMS change of p", "same top token", "99.9 %", "99 %", "median", "maximum"),
    ):
        assert title in result.stdout
    record = json.loads(cli("compare", base, other, "--text", text, *OPTIONS, "--json").stdout)
    assert (record["base"], record["model"], record["context"]) == ("base", "other", 16)
    percentiles = record["divergence"]["kl"]["percentiles"]
    assert percentiles["100"] >= percentiles["99.9"] >= percentiles["50"] >= percentiles["0"]
    assert f"{record['perplexity']['value']:.4f}" in result.stdout


def test_stored_logits_stand_for_a_base(cli: RunCli, models: tuple[Path, Path]) -> None:
    base, other = models
    text, stored = base.with_name("text.txt"), base.with_name("base.kld")
    result = cli("compare", base, "--text", text, "--save-logits", stored, *OPTIONS)
    assert result.exit_code == 0, result.stderr
    assert "KL divergence" not in result.stdout
    from_file = cli("compare", "--logits", stored, other, "-t", 1, "-q", "--json")
    both = cli("compare", base, other, "--text", text, *OPTIONS, "--json")
    one, two = json.loads(from_file.stdout), json.loads(both.stdout)
    assert one["divergence"]["kl"] == two["divergence"]["kl"]
    assert one["base"] == str(stored)


def test_progress_says_how_long_it_takes(cli: RunCli, models: tuple[Path, Path]) -> None:
    base, _ = models
    result = cli("compare", base, "--text", base.with_name("text.txt"), "-c", 16, "-t", 1)
    assert "comparing: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one or two models"),
        (("a", "b", "--logits", "c"), "give one model with --logits"),
    ],
)
def test_wrong_numbers_of_models_are_refused(
    cli: RunCli, arguments: tuple[str, ...], said: str
) -> None:
    result = cli("compare", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_other_vocabularies_are_refused(cli: RunCli, models: tuple[Path, Path]) -> None:
    base, _ = models
    write_tiny_model(base.with_name("third.gguf"), "llama", vocab=300)
    result = cli("compare", base, base.with_name("third.gguf"), *OPTIONS)
    assert result.exit_code == 2
    assert "another vocabulary" in result.stderr
