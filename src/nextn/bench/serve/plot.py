"""Tokens per second and times over the load, as a picture; needs matplotlib, which is optional."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nextn.bench.serve.report import Report
from nextn.plots import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHARTS = (("ttft", "ms to the first token"), ("tpot", "ms per further token"))


def plot_report(report: Report, path: Path) -> None:
    """Draw three charts beside each other; see `nextn.bench.plot.check_plot` for the file."""
    with picture(path, charts=3, figsize=(13, 4)) as (figure, axes):
        for axis in axes:
            axis.set_xticks(range(len(report.summaries)), list(report.summaries))
            rates = bool(report.settings.rates)
            axis.set_xlabel("requests per second" if rates else "requests at a time")
        _draw_rates(report, axes[0])
        for axis, (name, title) in zip(axes[1:], _CHARTS, strict=True):
            _draw_times(report, axis, name)
            axis.set(title=f"{title}, median and 99 %")
        for axis in axes:
            axis.set_ylim(0, None)
        axes[0].legend(frameon=False, fontsize="small")
        figure.suptitle(f"{report.model}, at most {report.settings.tokens} tokens")


def _sides(report: Report) -> list[str]:
    return [one.run.side for one in next(iter(report.summaries.values()))]


def _draw_rates(report: Report, axis: Axes) -> None:
    """Bars by load, one for each side."""
    sides = _sides(report)
    width = 0.8 / len(sides)
    for number, side in enumerate(sides):
        heights = [many[number].tokens_per_second for many in report.summaries.values()]
        places = [n + (number + 0.5) * width - 0.4 for n in range(len(heights))]
        axis.bar(places, heights, width, label=side)
    axis.set(title="tokens/s of all requests")


def _draw_times(report: Report, axis: Axes, name: str) -> None:
    """Lines over the loads, one for each side; dotted is the 99th percentile."""
    for number, side in enumerate(_sides(report)):
        spreads = [many[number].times[name] for many in report.summaries.values()]
        (line,) = axis.plot([1e3 * one.median for one in spreads], "o-", label=side)
        axis.plot([1e3 * one.p99 for one in spreads], ":", color=line.get_color())
