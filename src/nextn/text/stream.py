"""Text from tokens as they arrive, never half a character at a time."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nextn.text.tokenizer import Tokenizer


class StreamDetokenizer:
    """Turns a growing list of tokens into text.

    A token may hold a part of a character only; its bytes wait until the character is complete or
    certainly broken, which gives U+FFFD. For any tokens, the pieces of `push` and `finish` joined
    are `tokenizer.decode` of the tokens with the same options.

    Args:
        tokenizer: the model's tokenizer.
        skip_special: leave out control tokens.
        shown: control tokens that are not left out.
        continues: the tokens follow other text, such as a prompt, so that a leading space is text.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special: bool = False,
        continues: bool = False,
        shown: frozenset[int] = frozenset(),
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._shown = shown
        self._at_start = tokenizer.add_space_prefix and not continues
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Return the text that is certain after one more token, often "".

        Raises:
            RequestError: the id is outside the vocabulary.
        """
        piece = self._tokenizer.token_bytes(token)
        if token in self._tokenizer.special:
            if self._skip_special and token not in self._shown:
                return ""
        elif self._at_start:
            piece = piece.removeprefix(b" ")
            self._at_start = False
        return self._decoder.decode(piece)

    def finish(self) -> str:
        """Return what is left: U+FFFD for an incomplete character, else ""."""
        return self._decoder.decode(b"", final=True)
