"""The speed-up of every task, acceptance by position, and where the time goes, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nextn.bench.mtp.report import ALL, Report
from nextn.plots import picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS = ("draft", "verify", "rest")


def plot_report(report: Report, path: Path) -> None:
    """Draw three charts beside each other; see `nextn.bench.plot.check_plot` for the file."""
    with picture(path, charts=3, figsize=(13, 4), width_ratios=(5, 4, 3)) as (figure, axes):
        speed, acceptance, times = axes
        _draw_speed_ups(report, speed)
        _draw_acceptance(report, acceptance)
        _draw_times(report, times)
        for axis in axes:
            axis.set_ylim(0, None)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(frameon=False, fontsize="small")
        model = report.model
        figure.suptitle(f"{model.name}: {model.computing}, threads: {model.threads}")


def _draw_speed_ups(report: Report, axis: Axes) -> None:
    """Bars by category, one for each setting."""
    drafts = report.settings.drafts[1:]
    width = 0.8 / len(drafts)
    for number, draft in enumerate(drafts, 1):
        heights = [summaries[number].speed_up for summaries in report.summaries.values()]
        places = [n + (number - 0.5) * width - 0.4 for n in range(len(heights))]
        label = str(draft) if draft == "auto" else f"depth {draft}"
        axis.bar(places, heights, width, label=label)
    axis.axhline(1.0, color="black", linewidth=0.8)
    axis.set_xticks(range(len(report.summaries)), list(report.summaries), rotation=30, ha="right")
    axis.set(title="speed-up over plain decoding")


def _draw_acceptance(report: Report, axis: Axes) -> None:
    """By position, with the greatest fixed depth if there is any; all categories strongest."""
    drafts = report.settings.drafts
    chosen = -2 if len(drafts) > 2 else -1
    for category, summaries in report.summaries.items():
        for name, one in sorted(summaries[chosen].total.by_drafter.items()):
            shares = [100 * share for share in one.acceptance_at]
            label = name if len(report.summaries) == 1 else f"{name}, {category}"
            style = {"color": "black", "linewidth": 2.5} if category == ALL else {"alpha": 0.8}
            axis.plot(range(1, len(shares) + 1), shares, "o-", markersize=3, label=label, **style)
    title = "auto" if drafts[chosen] == "auto" else f"depth {drafts[chosen]}"
    axis.locator_params(axis="x", integer=True)
    axis.set(title=f"accepted by position, %, {title}", xlabel="position in the draft")


def _draw_times(report: Report, axis: Axes) -> None:
    """Milliseconds per token of all texts, stacked."""
    summaries = report.pooled
    names = [str(one.draft) for one in summaries]
    bottoms = [0.0] * len(summaries)
    for part, name in enumerate(_PARTS):
        heights = [1e3 * one.times[part] / max(one.later_tokens, 1) for one in summaries]
        axis.bar(names, heights, bottom=bottoms, label=name)
        bottoms = [a + b for a, b in zip(bottoms, heights, strict=True)]
    axis.set(title="ms per token", xlabel="drafted tokens per step")
