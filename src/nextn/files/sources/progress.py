"""How a download tells its caller how far it is."""

from __future__ import annotations

from typing import Protocol


class ProgressCallback(Protocol):
    """Told what is going on, many times a second; draws a bar or does nothing."""

    def __call__(self, activity: str, done: int, total: int | None, /) -> None:
        """Report.

        Args:
            activity: what is under way, such as "downloading smollm2"; the same text while the
                same thing goes on.
            done: bytes so far. May fall back to 0, when a download has to begin again.
            total: bytes in all, or None where nobody knows.
        """


def no_progress(activity: str, done: int, total: int | None, /) -> None:
    """Do nothing."""
