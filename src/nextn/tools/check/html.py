"""A check as one HTML page that needs nothing else; its pictures need matplotlib."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from html import escape
from importlib.util import find_spec
from pathlib import Path

from nextn.errors import RequestError
from nextn.files.replacing import replacing
from nextn.plots import picture
from nextn.tools.check.report import CheckReport, Measured

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em;
  color: #222 }
table { border-collapse: collapse; margin: 1em 0; font-size: 14px }
th, td { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid #ddd;
  vertical-align: top }
.verdict { display: inline-block; padding: .1em .6em; border-radius: .3em; color: white;
  background: #a33 }
.healthy { background: #2a7a3b } .weak { background: #b07a00 } .absent { background: #666 }
.fault { color: #a33 } .doubt { color: #b07a00 }
svg { max-width: 100%; height: auto }
"""


def check_page(path: Path, *, pictures: bool) -> None:
    """Refuse a page that cannot be written, before anything is measured.

    Raises:
        RequestError: another kind of file, a folder that does not exist, or no matplotlib.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise RequestError(f"--html: {str(path)!r} does not end in .html")
    if not path.absolute().parent.is_dir():
        raise RequestError(f"--html: there is no folder {str(path.absolute().parent)!r}")
    if pictures and find_spec("matplotlib") is None:
        raise RequestError(
            "--html draws with matplotlib; install it with pip install 'nextn[plot]', or use "
            "--quick, which needs no pictures"
        )


def write_page(report: CheckReport, path: Path) -> None:
    """Write the page; an existing file is replaced.

    Raises:
        OSError: it cannot be written.
    """
    verdict = report.verdict
    parts = [
        f"<h1>{escape(report.name)}: <span class='verdict {verdict}'>{verdict}</span></h1>",
        f"<p>{escape(report.reason)}</p>",
        _table([("model", report.trunk), ("head", report.head or "none")]),
    ]
    if report.findings:
        parts += ["<h2>Findings</h2>", _findings(report)]
    if report.measured is not None:
        parts += ["<h2>Acceptance on the model's own texts</h2>", _pictures(report.measured)]
        for rows in (report.acceptance_rows(), report.part_rows(), report.estimate_rows()):
            parts.append(_table(rows, headed=True))
    elif report.not_measured is not None:
        parts.append(f"<p>Acceptance was not measured: {escape(report.not_measured)}</p>")
    if report.tensors:
        parts += ["<h2>Tensors</h2>", _tensors(report)]
    page = (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{escape(report.name)}: "
        f"{verdict}</title><style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )
    with replacing(path) as file:
        file.write(page.encode())


def _table(rows: Iterable[tuple[str, ...]], *, headed: bool = False) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "th" if headed and not number else "td"
        lines.append("".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row))
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>" if lines else ""


def _findings(report: CheckReport) -> str:
    rows = [
        f"<tr class='{one.severity}'><td>{one.severity}</td><td>{escape(one.where)}</td>"
        f"<td>{escape(one.text)}</td></tr>"
        for one in report.findings
    ]
    return f"<table>{''.join(rows)}</table>"


def _tensors(report: CheckReport) -> str:
    rows: list[tuple[str, ...]] = [("TENSOR", "SHAPE", "FORMAT", "LEAST", "MEAN", "MOST", "RMS")]
    for one in report.tensors:
        shape = " x ".join(map(str, one.shape))
        values = (one.least, one.mean, one.most, one.rms)
        rows.append((one.name, shape, one.format, *(f"{value:.4g}" for value in values)))
    return _table(rows, headed=True)


def _pictures(measured: Measured) -> str:
    """Acceptance by depth, what the parts bring, and speed by depth, as one SVG."""
    found = measured.experiments
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check.svg"
        with picture(path, charts=3, figsize=(12, 3.6)) as (_, (depths, parts, speeds)):
            for one in measured.acceptance:
                last = one is measured.acceptance[-1]
                style = {"color": "black", "linewidth": 2.5} if last else {"alpha": 0.6}
                depths.plot(
                    range(1, len(one.shares) + 1),
                    [100 * share for share in one.shares],
                    "o-",
                    label=one.category,
                    **style,
                )
            depths.set(title="right drafts, %", xlabel="place in the draft", ylim=(0, 100))
            depths.legend(frameon=False, fontsize="x-small")
            if found is not None:
                names = ["as it is", *(f"no {one.change.text}" for one in found.parts)]
                shares = [found.share, *(one.share for one in found.parts)]
                parts.barh(names[::-1], [100 * share for share in shares[::-1]])
            parts.set(title="right first drafts without a part, %")
            estimates = measured.costs.estimates
            places = [0, *(one.depth for one in estimates)]
            speeds.plot(places, [1.0, *(one.speed_up for one in estimates)], "o-")
            speeds.set(title="expected speed-up", xlabel="drafts per step", ylim=(0, None))
        svg = path.read_text(encoding="utf-8")
    return svg[svg.index("<svg") :]
