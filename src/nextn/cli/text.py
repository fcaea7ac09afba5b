"""Text for people: numbers with units, and text from files made safe to show."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What a terminal would obey; line breaks and tabs are left.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def one_line(text: str) -> str:
    """Text from anywhere as one line: line breaks become spaces, control characters are spelled."""
    joined = " ".join(line.strip() for line in text.splitlines())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)


def without_control(text: str) -> str:
    """What a model wrote, without the characters that would steer a terminal."""
    return _CONTROL.sub("", text)


def bytes_text(count: float) -> str:
    """A size in decimal units with three significant digits, such as "98.4 MB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{_three_digits(count)} {unit}"
        count /= 1000
    return f"{_three_digits(count)} TB"


def count_text(count: float) -> str:
    """A number such as "134.5 million" or "1.24 billion"."""
    if count < 1e6:
        return f"{count:,.0f}"
    return f"{count / 1e6:.1f} million" if count < 999.95e6 else f"{count / 1e9:.2f} billion"


def seconds_text(seconds: float) -> str:
    """A duration such as "84 ms", "2.31 s" or "3 min 20 s"."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns separated by two spaces; the last one is not padded."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    return "\n".join(lines)


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
