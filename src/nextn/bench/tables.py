"""Tables for terminals and pages."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, ...]


def aligned(rows: Sequence[Row], *, left: Sequence[int] = (0,)) -> str:
    """Columns of numbers, aligned to the right; those in `left` are texts, aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: Sequence[Row], *, text_columns: Sequence[int]) -> str:
    """A Markdown table whose first row is its head."""
    head, *body = rows
    rule = tuple("---" if n in text_columns else "---:" for n in range(len(head)))
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
        for row in (head, rule, *body)
    )
