"""The verification curve as a picture; needs matplotlib, which is optional."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from nextn.bench.report import Report
from nextn.errors import RequestError
from nextn.plots import picture

SUFFIXES = (".svg", ".png")


def check_plot(path: Path) -> None:
    """Refuse a picture that cannot be drawn, before anything is measured.

    Raises:
        RequestError: another kind of file, a folder that does not exist, or no matplotlib.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"--plot: {str(path)!r} does not end in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise RequestError(f"--plot: there is no folder {str(path.absolute().parent)!r}")
    if find_spec("matplotlib") is None:
        raise RequestError("--plot needs matplotlib; install it with pip install 'nextn[plot]'")


def plot_curves(report: Report, path: Path) -> None:
    """Draw milliseconds over rows, one line per depth, and what the machine allows."""
    with picture(path, figsize=(6, 3.6)) as (_, (axis,)):
        for depth, curve in report.curves.items():
            rows = [one.case.tokens for one in curve]
            times = [1e3 * one.median for one in curve]
            (line,) = axis.plot(rows, times, "o-", label=f"{depth:,} tokens in the cache")
            if report.limits is not None:
                least = [1e3 * report.limits.seconds(one.work) for one in curve]
                axis.plot(rows, least, ":", color=line.get_color(), label="what the machine allows")
        model = report.model
        axis.set(
            title=f"{model.name}: {model.computing}, threads: {model.threads}",
            xlabel="rows of a step",
            ylabel="ms",
            ylim=(0, None),
        )
        axis.legend(frameon=False)
