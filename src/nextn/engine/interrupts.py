"""Ctrl-C at a moment when nothing is half-done."""

from __future__ import annotations

# The module under `signal`, which turns numbers and handlers into enumerations and back. That takes
# ten times as long as the rest, and this is done in every step.
from _signal import SIGINT, getsignal, signal  # type: ignore[import-not-found]
from threading import current_thread, main_thread
from types import FrameType, TracebackType


class DeferredInterrupts:
    """Lets a Ctrl-C take effect when the block is over, and not in its middle.

    Python delivers SIGINT to the main thread alone; in other threads this does nothing. The block
    should be short: a step cannot be interrupted anyway while it is inside the executor.
    """

    __slots__ = ("_caught", "_handler")

    def __enter__(self) -> None:
        self._caught: FrameType | None = None
        self._handler = getsignal(SIGINT) if current_thread() is main_thread() else None
        if callable(self._handler):
            signal(SIGINT, self._catch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if callable(self._handler):
            signal(SIGINT, self._handler)
            if self._caught is not None:
                self._handler(SIGINT, self._caught)

    def _catch(self, _: int, frame: FrameType | None) -> None:
        self._caught = frame
