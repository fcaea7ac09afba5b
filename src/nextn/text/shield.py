"""Keeps the texts of control tokens in messages plain text, through a chat template.

A template writes control tokens as text, "<|im_end|>", beside what the user wrote, and both are
encoded together. So that a message cannot end its own turn and begin another one, the texts of
control tokens in it are broken by a mark that no message can contain, since it is drawn at random.
The tokenizer finds no control token there, and takes the mark out again.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

_MARK_DIGITS = 40


class Shield:
    """Breaks the texts of control tokens.

    Args:
        control_texts: of all control tokens. Those of a single character cannot be broken.

    Attributes:
        mark: what stands inside of them. Digits, which a template's filters leave alone.
    """

    def __init__(self, control_texts: Iterable[str]) -> None:
        self.mark = "".join(secrets.choice("0123456789") for _ in range(_MARK_DIGITS))
        self._texts = {text for text in control_texts if len(text) > 1}
        self._lengths: dict[str, set[int]] = {}
        for text in self._texts:
            self._lengths.setdefault(text[0], set()).add(len(text))
        first = "".join(map(re.escape, self._lengths))
        self._first = re.compile(f"[{first}]") if first else None

    def protect(self, value: Any) -> Any:
        """Break the texts in a JSON-like value; keys and numbers stay as they are."""
        if isinstance(value, str):
            return value if self._first is None else self._first.sub(self._break, value)
        if isinstance(value, Mapping):
            return {key: self.protect(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.protect(item) for item in value]
        return value

    def _break(self, match: re.Match[str]) -> str:
        """Put the mark after the first character of each place where a text begins.

        So texts that overlap are broken, too.
        """
        start, text = match.start(), match.string
        lengths = self._lengths[match[0]]
        begins = any(text[start : start + length] in self._texts for length in lengths)
        return match[0] + self.mark if begins else match[0]
