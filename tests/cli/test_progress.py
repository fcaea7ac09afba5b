from __future__ import annotations

import io

from nextn.cli.progress import ProgressDisplay


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_there_are_few_lines() -> None:
    stream = io.StringIO()
    now = 0.0
    with ProgressDisplay(stream=stream, clock=lambda: now) as progress:
        for done in range(0, 1001):
            progress("downloading it", done * 1000, 1_000_000)
            now += 0.03125  # exact in binary
        progress("unpacking it", 0, None)
    assert stream.getvalue().splitlines() == [
        "downloading it",
        "downloading it: 320 kB of 1.00 MB",
        "downloading it: 640 kB of 1.00 MB",
        "downloading it: 960 kB of 1.00 MB",
        "downloading it: 1.00 MB of 1.00 MB",
        "unpacking it",
    ]


def test_on_a_terminal_there_is_a_bar_with_bytes_and_rate() -> None:
    stream = FakeTerminal()
    with ProgressDisplay(stream=stream) as progress:
        progress("downloading [it]", 0, 2_000_000)
        progress("downloading [it]", 1_000_000, 2_000_000)
    shown = stream.getvalue()
    assert "downloading [it]" in shown
    assert "1.0/2.0 MB" in shown
    assert "━" in shown


def test_quiet_shows_nothing() -> None:
    stream = FakeTerminal()
    with ProgressDisplay(quiet=True, stream=stream) as progress:
        progress("downloading", 1, 2)
    assert stream.getvalue() == ""


def test_nothing_is_shown_when_nothing_happens() -> None:
    stream = FakeTerminal()
    with ProgressDisplay(stream=stream):
        pass
    assert stream.getvalue() == ""
