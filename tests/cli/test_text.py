from __future__ import annotations

import pytest

from nextn.cli.text import (
    bytes_text,
    count_text,
    one_line,
    seconds_text,
    table,
    without_control,
)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (98_362_432, "98.4 MB"),
        (253_113_024, "253 MB"),
        (999_600, "1.00 MB"),
        (40_000_000_000, "40.0 GB"),
        (5_000_000_000_000, "5.00 TB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert bytes_text(count) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(35_136, "35,136"), (134_515_008, "134.5 million"), (1_235_814_400, "1.24 billion")],
)
def test_counts(count: int, expected: str) -> None:
    assert count_text(count) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0843, "84 ms"), (0.9996, "1.00 s"), (2.314, "2.31 s"), (200.2, "3 min 20 s")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert seconds_text(seconds) == expected


def test_a_message_is_one_line_that_no_terminal_obeys() -> None:
    assert one_line("one\n  two\r\nthree") == "one two three"
    assert one_line("a\x1b[2Jb\x07\u2028c\udcff") == r"a\x1b[2Jb\x07 c\udcff"


def test_a_text_keeps_its_lines_but_steers_no_terminal() -> None:
    assert without_control("a\tb\n\x1b]0;c\x07\x9bd\r\x7f") == "a\tb\n]0;cd"


def test_a_table_has_columns() -> None:
    assert table([("a", "bb", "c"), ("dddd", "e", "")]) == "a     bb  c\ndddd  e"
