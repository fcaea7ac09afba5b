"""Keeps the texts of control tokens in messages plain text, through a chat template.

A template writes control tokens as text, "<|im_end|>", beside what the user wrote, and both are
encoded together. So that a message cannot end its own turn and begin another one, the texts of
control tokens in it are broken by a mark that no message can contain, since it is drawn at random.
The tokenizer finds no control token there, and takes the mark out again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from nextn.text.special_tokens import SpecialSplitter
from nextn.text.template_limits import MAX_DEPTH

_MARK_DIGITS = 40


class Shield:
    """Breaks the texts of control tokens.

    Args:
        control: finds all control tokens. Those of a single character cannot be broken.

    Attributes:
        mark: what stands inside of them. Digits, which a template's filters leave alone.
    """

    def __init__(self, control: SpecialSplitter) -> None:
        self.mark = "".join(secrets.choice("0123456789") for _ in range(_MARK_DIGITS))
        self._control = control

    def protect(self, value: Any, depth: int = 0) -> Any:
        """Break the texts in a JSON-like value, keys included; numbers stay as they are.

        What nests deeper than a template may be given is passed on, for the template to refuse.
        """
        if depth > MAX_DEPTH:
            return value
        if isinstance(value, str):
            return self._break(value)
        if isinstance(value, Mapping):
            return {
                self.protect(key, depth + 1): self.protect(item, depth + 1)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.protect(item, depth + 1) for item in value]
        return value

    def _break(self, text: str) -> str:
        """Put the mark after the first character of each place where a token's text begins.

        So texts that overlap are broken, too.
        """
        places = [start + 1 for start in self._control.starts(text, shortest=2)]
        cuts = [0, *places, len(text)]
        return self.mark.join(text[a:b] for a, b in pairwise(cuts))
