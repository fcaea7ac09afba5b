"""Stop strings in text that arrives piece by piece."""

from __future__ import annotations


class StopMatcher:
    """Lets text through up to the first stop string, and holds back what might become one.

    The first stop string is the one that is complete first, as if the text came character by
    character; of those that end together, the longest. So it does not matter how the text is cut
    into pieces.

    Args:
        stops: the stop strings, none of them empty.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""

    def push(self, text: str) -> tuple[str, bool]:
        """Take the next piece.

        Returns:
            The text that can be shown now, and whether a stop string is complete. If so, nothing
            more may be pushed, and the text from the stop string on is dropped.
        """
        if not self._stops or not (text or self._held):
            return text, False
        text = self._held + text
        found = [
            (start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0
        ]
        if found:
            self._held = ""
            return text[: min(found)[1]], True
        held = max(_longest_start_at_end(stop, text) for stop in self._stops)
        certain = len(text) - held
        self._held = text[certain:]
        return text[:certain], False

    def finish(self) -> str:
        """The text that was held back, once it is known that no more will come."""
        held, self._held = self._held, ""
        return held


def _longest_start_at_end(stop: str, text: str) -> int:
    """Length of the longest proper start of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
