from __future__ import annotations

from pathlib import Path

import pytest

from nextn.bench import Case, Limits, Measurement, Report, Work
from nextn.bench.plot import check_plot, plot_curves
from nextn.bench.report import ModelLine
from nextn.errors import RequestError

MODEL = ModelLine("tiny|one", "llama", "Q4_0", 1_620_000_000, 915_000_000, "cpu", "avx2", 2)


LIMITS = Limits(bandwidth=1e9, products=1e12, threads=2)


def report(limits: Limits | None = LIMITS) -> Report:
    return Report(
        MODEL,
        (
            Measurement(Case("prompt", 512, 0), (2.0, 4.0, 4.0), Work(1e9, 1e12)),
            Measurement(Case("decode", 128, 0, 2), (1.28,), Work(0.64e9, 1.0)),
            Measurement(Case("rows", 1, 256), (0.010, 0.012, 0.010), Work(5e6, 1.0)),
            Measurement(Case("rows", 2, 256), (0.020,), Work(5e6, 1.5e10)),
        ),
        limits,
    )


def test_text_shows_rates_shares_and_bars() -> None:
    lines = report().as_text().splitlines()
    assert lines[0] == ("tiny|one: llama Q4_0, 1.62 B parameters, 915 MB; cpu (avx2), 2 threads")
    rows = [line.split() for line in lines]
    assert ["TEST", "TOKENS/S", "±", "MS/STEP", "OF", "LIMIT"] in rows
    assert ["pp512", "128.0", "32.0", "25%"] in rows
    assert ["tg128", "b2", "200.0", "0.0", "10.00", "50%"] in rows
    assert ["1", "10.00", "0.50", "1.00", "50%", "█" * 16] in rows
    assert ["2", "20.00", "0.00", "2.00", "75%", "█" * 32] in rows
    assert lines[7].startswith("ROWS @ d256")


def test_without_block_characters_bars_are_number_signs() -> None:
    text = report().as_text(blocks=False)
    assert "█" not in text
    assert text.endswith("#" * 32)


def test_without_limits_there_is_no_share() -> None:
    text = report(None).as_text()
    assert "limit:" not in text
    assert "%" not in text


def test_markdown_has_the_columns_of_llama_bench() -> None:
    lines = report().as_markdown().splitlines()
    assert lines[0] == "| model | size | params | backend | threads | test | t/s | of limit |"
    assert lines[2] == (
        "| tiny\\|one llama Q4_0 | 872.61 MiB | 1.62 B | cpu (avx2) | 2 | pp512 | 128.00 ± 32.00 "
        "| 25% |"
    )
    assert "| rows @ d256 | ms | ± | ratio | of limit |" in lines
    assert lines[-1] == "| 2 | 20.00 | 0.00 | 2.00 | 75% |"


def test_the_record_holds_every_time() -> None:
    record = report().as_record()
    assert record["model"]["threads"] == 2
    assert [test["test"] for test in record["tests"]] == ["pp512", "tg128 b2"]
    assert record["tests"][0]["seconds"] == [2.0, 4.0, 4.0]
    assert record["tests"][0]["tokens_per_second"] == 128
    assert record["verification"][1]["ratio"] == 2
    assert record["verification"][1]["limit_seconds"] == 0.015


def test_plots_that_cannot_be_drawn_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RequestError, match=r"does not end in \.svg or \.png"):
        check_plot(tmp_path / "curve.pdf")
    with pytest.raises(RequestError, match="there is no folder"):
        check_plot(tmp_path / "missing" / "curve.svg")
    monkeypatch.setattr("nextn.bench.plot.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"pip install 'nextn\[plot\]'"):
        check_plot(tmp_path / "curve.svg")


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_curve_is_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curve.{suffix}"
    check_plot(path)
    plot_curves(report(), path)
    beginning = {"svg": b"<?xml", "png": b"\x89PNG"}[suffix]
    assert path.read_bytes().startswith(beginning)
