"""Reads text that arrives in pieces, as if it were all there.

A parser is written as a generator that yields whenever it needs more text. It then does the same
steps however the text is cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""Reading that may have to wait, with a result of type T."""

_SPACE = re.compile(r"\s*")


class Reader:
    """The text so far and a place in it.

    Attributes:
        at: the place, counted in characters from the begin of the text.
        ended: whether no more text will come.
    """

    def __init__(self) -> None:
        self.at = 0
        self.ended = False
        self._text = ""
        self._base = 0
        self._taken = 0
        self._on_wait: Callable[[], None] | None = None

    def push(self, text: str) -> None:
        """Append text."""
        self._text = self._text[self._taken - self._base :] + text
        self._base = self._taken

    def take(self) -> str:
        """The text between the last call and the place; it cannot be read again."""
        text = self.untaken()
        self._taken = self.at
        return text

    def untaken(self) -> str:
        """What `take` would return."""
        return self.between(self._taken, self.at)

    def between(self, start: int, end: int) -> str:
        """A part of the text that was not taken."""
        return self._text[start - self._base : end - self._base]

    @contextmanager
    def waiting(self, action: Callable[[], None]) -> Iterator[None]:
        """Within it, do something before every wait for more text, such as taking what was read."""
        before, self._on_wait = self._on_wait, action
        try:
            yield
        finally:
            self._on_wait = before

    def more(self) -> Steps[bool]:
        """Wait for more text; False at the end."""
        if self.ended:
            return False
        if self._on_wait is not None:
            self._on_wait()
        yield
        return True

    def peek(self) -> Steps[str]:
        """The next character; "" at the end."""
        while self.at - self._base >= len(self._text):
            if not (yield from self.more()):
                return ""
        return self._text[self.at - self._base]

    def accept(self, *literals: str) -> Steps[str]:
        """Step over the literal that the text goes on with; "" if it is none of them.

        Args:
            literals: none of them begins another.
        """
        while True:
            rest = self.at - self._base
            possible = False
            for literal in literals:
                if self._text.startswith(literal, rest):
                    self.at += len(literal)
                    return literal
                possible = possible or literal.startswith(self._text[rest:])
            if not (possible and (yield from self.more())):
                return ""

    def accept_begun(self, *literals: str) -> bool:
        """Step to the end of the text if it breaks off within one of some literals."""
        rest = self._text[self.at - self._base :]
        if not self.ended or not any(literal.startswith(rest) for literal in literals):
            return False
        self.at += len(rest)
        return True

    def match(self, pattern: re.Pattern[str], limit: int) -> Steps[str]:
        """Step over all characters that a pattern of the form [...]* matches, `limit` at most.

        Returns:
            Those characters, even if they were taken meanwhile.
        """
        pieces: list[str] = []
        left = limit
        while True:
            found = pattern.match(self._text, self.at - self._base)
            piece = found.group()[:left] if found else ""
            pieces.append(piece)
            left -= len(piece)
            self.at += len(piece)
            if left == 0 or self.at - self._base < len(self._text):
                break
            if not (yield from self.more()):
                break
        return "".join(pieces)

    def spaces(self) -> Steps[None]:
        """Step over white space."""
        while True:
            found = _SPACE.match(self._text, self.at - self._base)
            self.at += len(found.group()) if found else 0
            if self.at - self._base < len(self._text) or not (yield from self.more()):
                return

    def until(self, *marks: str, spaces: bool = False) -> Steps[str]:
        """Go to where the first of some marks begins; "" and the end of the text if none comes.

        Args:
            marks: none of them begins another.
            spaces: go to the begin of the white space before it.
        """
        search = _any_of(marks)
        looked = self.at  # no mark begins before it
        while True:
            found = search(self._text, looked - self._base) if marks else None
            if found is not None:
                self._go_to(found.start() + self._base, spaces)
                return found.group()
            end = self._base + len(self._text)
            if self.ended:
                self.at = end
                return ""
            held = max((_begun(mark, self._text) for mark in marks), default=0)
            looked = max(looked, end - held)
            self._go_to(looked, spaces)
            yield from self.more()

    def _go_to(self, end: int, spaces: bool) -> None:
        """Go forward to a place, or to the begin of the white space before it."""
        if spaces:
            end = self.at + len(self.between(self.at, end).rstrip())
        self.at = max(self.at, end)


@lru_cache(64)
def _any_of(marks: tuple[str, ...]) -> Callable[[str, int], re.Match[str] | None]:
    return re.compile("|".join(map(re.escape, marks))).search


def _begun(mark: str, text: str) -> int:
    """Length of the longest proper begin of `mark` that `text` ends with."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return length
    return 0
