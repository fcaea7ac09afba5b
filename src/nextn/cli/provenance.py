"""Shows which tokens of a text the model chose alone, and which ones a drafter foresaw."""

from __future__ import annotations

import os
import sys
from collections import Counter
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

if TYPE_CHECKING:
    from nextn.engine import Token

Means: TypeAlias = Literal["colours", "brackets", "nothing"]
"""How the tokens of drafters are told apart in the text."""

TRUNK = "trunk"
_FIXED = {"head": 0, "suffix": 1, "grammar": 2}  # keep their colours, whichever comes first
_COLOURS = ("green", "cyan", "magenta", "yellow")
_BRACKETS = ("⟦⟧", "⟨⟩", "⟪⟫", "‹›")
_ASCII_BRACKETS = ("[[ ]]", "{{ }}", "<< >>", "(( ))")


def choose_means() -> Means:
    """What standard output can show, and is wanted there.

    Colours on a terminal, and elsewhere if FORCE_COLOR is set; brackets on a terminal that has no
    colours, or should have none (NO_COLOR). A pipe gets the text alone.
    """
    if not sys.stdout.isatty():
        return "colours" if os.environ.get("FORCE_COLOR") else "nothing"
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return "brackets" if plain else "colours"


class Provenance:
    """Marks the tokens of one text by where they came from, and counts them.

    Args:
        means: how they are marked.
        encoding: of what they are written to; brackets that it lacks become those of ASCII.
    """

    def __init__(self, means: Means, encoding: str = "utf-8") -> None:
        self._means = means
        self._counts: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._current: str | None = None
        try:
            "".join(_BRACKETS).encode(encoding)
            self._brackets = [(pair[0], pair[1]) for pair in _BRACKETS]
        except (UnicodeEncodeError, LookupError):
            self._brackets = [(pair[:2], pair[3:]) for pair in _ASCII_BRACKETS]

    def mark(self, token: Token, text: str) -> str:
        """The text of a token with its mark; brackets enclose all tokens of a run."""
        self._counts[token.drafter or TRUNK] += 1
        if not text or self._means == "nothing":
            return text
        if self._means == "colours":
            return text if token.drafter is None else click.style(text, fg=self._colour(token))
        if token.drafter == self._current:
            return text
        closed = self.close()
        self._current = token.drafter
        if token.drafter is None:
            return closed + text
        return closed + self._brackets[self._number(token.drafter)][0] + text

    def close(self) -> str:
        """What ends the text: the bracket that is still open, if there is one."""
        current, self._current = self._current, None
        return "" if current is None else self._brackets[self._number(current)][1]

    def legend(self) -> str:
        """How many tokens came from where, and what they look like."""
        parts = [f"{self._counts[TRUNK]} of the {TRUNK}"]
        drafters = sorted((name for name in self._counts if name != TRUNK), key=self._number)
        for name in drafters:
            number = self._number(name)
            part = f"{self._counts[name]} of the {name} drafter"
            if self._means == "colours":
                colour = _COLOURS[number]
                part = click.style(f"{part} ({colour})", fg=colour)
            elif self._means == "brackets":
                part = f"{part} ({''.join(self._brackets[number])})"
            parts.append(part)
        return "tokens: " + ", ".join(parts)

    def _colour(self, token: Token) -> str:
        return _COLOURS[self._number(token.drafter or TRUNK)]

    def _number(self, drafter: str) -> int:
        """Which colour or pair of brackets a drafter has; more than there are share the last."""
        number = _FIXED.get(drafter)
        if number is None:
            number = self._numbers.setdefault(drafter, len(_FIXED) + len(self._numbers))
        return min(number, len(_COLOURS) - 1)
