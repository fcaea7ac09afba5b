"""Which tokens the parts of an answer are made of."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nextn.text.dialects import Delta, Text

if TYPE_CHECKING:
    from nextn.engine.events import Token


class PartTokens:
    """Finds the tokens of each piece of text, as tokens and parts arrive.

    The sources of the parts, joined, are the texts of the tokens, joined; a part may come later
    than its tokens. Tokens without text, such as the first half of a character, belong to the next
    one that has some.
    """

    def __init__(self) -> None:
        self._tokens: deque[tuple[int, int, list[Token]]] = deque()
        """Those of parts that did not come yet: where their text begins and ends (characters)."""
        self._silent: list[Token] = []
        self._written = 0
        self._told = 0
        self._in_text = False

    def add(self, tokens: list[Token]) -> None:
        """Take the next tokens."""
        for token in tokens:
            self._silent.append(token)
            if token.text:
                begin, self._written = self._written, self._written + len(token.text)
                self._tokens.append((begin, self._written, self._silent))
                self._silent = []

    def rest(self) -> list[Token]:
        """Tokens without text at the end, if text came last: those of no later piece."""
        return self._silent if self._in_text else []

    def of(self, part: Delta) -> list[Token]:
        """The tokens of the next part if it is text, without those that other text had before.

        A token that text shares with something else is one of the text.
        """
        self._told += len(part.source)
        self._in_text = isinstance(part, Text)
        found: list[Token] = []
        while self._tokens:
            begin, end, tokens = self._tokens[0]
            if isinstance(part, Text):
                if begin >= self._told:
                    break
                found += tokens
            elif end > self._told:
                break
            self._tokens.popleft()
        return found
