"""Shows how far a download or a measurement is: a bar, or a few lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from nextn.cli.text import bytes_text, one_line, seconds_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PLAIN_INTERVAL = 10.0
"""Seconds between two plain lines of one activity."""


class ProgressDisplay:
    """Shows what it is told about; see `nextn.files.sources.ProgressCallback`.

    Nothing is drawn, and `rich` is not imported, before there is something to say.

    Args:
        quiet: show nothing.
        counted: what is counted, such as "tokens", if it is not bytes.
        speed: say how many of what is counted come per second.
        stream: where to write; by default standard error.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        counted: str | None = None,
        speed: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quiet = quiet
        self._counted = counted
        self._speed = speed
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._activity = ""
        self._spoke = 0.0
        self._complete = False
        self._begun = (0.0, 0)

    def __call__(self, activity: str, done: int, total: int | None, /) -> None:
        """Show how far an activity is."""
        if self._quiet:
            return
        activity = one_line(activity)
        if self._stream.isatty():
            self._draw(activity, done, total)
        else:
            self._say(activity, done, total)

    def note(self, line: str, /) -> None:
        """Show a line that stays."""
        if self._quiet:
            return
        line = one_line(line)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=self._stream, flush=True)

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, activity: str, done: int, total: int | None) -> None:
        if self._bar is None:
            self._bar = _make_bar(self._stream, self._counted, self._speed)
            self._bar.start()
        if self._task is None or activity != self._activity:
            self._activity = activity
            self._task = self._bar.add_task(activity, total=total)
        self._bar.update(self._task, completed=done, total=total)

    def _say(self, activity: str, done: int, total: int | None) -> None:
        now = self._clock()
        new = activity != self._activity
        if new:
            self._activity = activity
            self._complete = False
            self._begun = (now, done)
        finished = total is not None and done >= total and not self._complete
        if not new and not finished and now - self._spoke < _PLAIN_INTERVAL:
            return
        if self._complete:
            return
        self._complete = finished
        self._spoke = now
        amount = self._amount(done, total)
        seconds, before = now - self._begun[0], self._begun[1]
        if self._speed and seconds > 0 and done > before:
            rate = (done - before) / seconds
            spoken = bytes_text(rate) if self._counted is None else f"{rate:,.0f}"
            amount += f", {spoken} per second"
            if total is not None and total > done:
                amount += f", {seconds_text((total - done) / rate)} left"
        print(f"{activity}: {amount}" if done else activity, file=self._stream, flush=True)

    def _amount(self, done: int, total: int | None) -> str:
        if self._counted is None:
            return (
                bytes_text(done) if total is None else f"{bytes_text(done)} of {bytes_text(total)}"
            )
        return f"{done:,}{'' if total is None else f' of {total:,}'} {self._counted}"


def _make_bar(stream: TextIO, counted: str | None, speed: bool) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    amounts: tuple[ProgressColumn, ...] = (
        (DownloadColumn(), TransferSpeedColumn())
        if counted is None
        else (MofNCompleteColumn(), TextColumn(counted))
    )
    if speed and counted is not None:
        amounts = (*amounts, TextColumn("{task.speed:,.0f}/s"))
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        *amounts,
        TimeRemainingColumn(compact=True),
        console=Console(file=stream),
    )
