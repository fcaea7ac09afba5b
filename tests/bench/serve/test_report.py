from __future__ import annotations

import json
from pathlib import Path

import pytest

from nextn.bench.serve import Answer, Load, Measurements, Report, Run, Settings
from nextn.bench.serve.plot import plot_report
from nextn.bench.serve.report import Spread

SETTINGS = Settings(limits={"ttft": 0.5, "e2e": 3.0})
# Three tokens in two pieces; five in three; one that failed.
ANSWERS = [
    Answer(0.0, (0.25, 1.25), "ab", 3),
    Answer(1.0, (1.75, 2.75, 4.75), "cde", 5),
    Answer(2.0, error="busy"),
]


def report(*, limits: bool = True) -> Report:
    runs = [
        Run("mtp off", Load(concurrency=2), ANSWERS, 4.0),
        Run("mtp auto", Load(concurrency=2), ANSWERS[:2], 2.0),
        Run("mtp off", Load(concurrency=4), ANSWERS[2:], 1.0),
        Run("mtp auto", Load(concurrency=4), [Answer(0.0, (0.5,), "a", 1)], 1.0),
    ]
    settings = SETTINGS if limits else Settings()
    return Report("tiny", "http://a/v1", None, settings, Measurements(runs, 4))


def test_figures_are_those_worked_out_by_hand() -> None:
    plain, drafted = report().summaries["2"]
    assert plain.tokens_per_second == 8 / 4
    assert drafted.ratio == (8 / 2) / (8 / 4)
    assert plain.requests_per_second == 2 / 4
    assert plain.goodput == 1 / 4  # the second took 750 ms to its first token
    times = plain.times
    assert (times["ttft"].mean, times["ttft"].median) == (0.5, 0.5)
    assert times["tpot"].mean == (1.0 / 2 + 3.0 / 4) / 2
    assert (times["itl"].mean, times["itl"].median) == (4.0 / 3, 1.0)
    assert times["e2e"].mean == (1.25 + 3.75) / 2
    assert times["e2e"].p99 == pytest.approx(1.25 + 0.99 * 2.5)


def test_nothing_answered_is_no_reason_to_fail() -> None:
    failed, single = report().summaries["4"]
    assert failed.times["tpot"] == single.times["tpot"] == Spread()
    assert (failed.tokens_per_second, single.ratio) == (0.0, 1.0)
    assert failed.as_record()["errors"] == ["busy"]


def test_the_table_has_a_row_for_each_load_and_side() -> None:
    head, table, *errors = report().as_text().split("\n\n")
    assert "4 texts compared, the same with all settings" in head
    lines = table.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["2", "2", "4", "4"]
    assert lines[1].split()[:8] == ["2", "mtp", "off", "2/3", "2.0", "1.00", "0.50", "0.25"]
    assert lines[1].split()[8:11] == ["500", "500", "745"]
    assert errors == ["mtp off, load 2: busy", "mtp off, load 4: busy"]
    assert "GOOD/S" in lines[0]
    assert "GOOD/S" not in report(limits=False).as_text()


def test_markdown_and_json_have_the_same_figures() -> None:
    assert "| 2 | mtp auto | 2/2 | 4.0 | 2.00 |" in report().as_markdown()
    record = json.loads(json.dumps(report().as_record()))
    assert [one["tokens_per_second"] for one in record["results"]] == [2.0, 4.0, 0.0, 1.0]
    assert record["results"][0]["ttft"]["p99"] == pytest.approx(0.745)
    assert record["compared_texts"] == 4


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "load.svg"
    plot_report(report(), path)
    assert "<svg" in path.read_text()
