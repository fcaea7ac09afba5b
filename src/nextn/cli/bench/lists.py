"""Lists in options: values separated by commas."""

from __future__ import annotations

import click


def numbers(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Numbers separated by commas."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0,4096")
    return tuple(map(int, parts))


def words(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    """Words separated by commas."""
    return None if value is None else tuple(part.strip() for part in value.split(",") if part)


def fractions(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Numbers with fractions separated by commas."""
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.5,2") from error


def drafts(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[str | int, ...]:
    """Settings of drafts separated by commas: off, auto, or numbers."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    for part in parts:
        if part not in ("auto", "off") and not part.isdecimal():
            raise click.BadParameter(f"{part!r} is not off, auto or a number")
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def limits(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> dict[str, float]:
    """Names with milliseconds, as in "ttft:500,tpot:50"; returned in seconds."""
    found = {}
    for part in (value or "").split(","):
        name, colon, number = part.strip().partition(":")
        if not name and not colon:
            continue
        try:
            found[name] = float(number) / 1e3
        except ValueError as error:
            raise click.BadParameter(f"{part!r} is not a limit such as ttft:500") from error
    return found
