"""From conversations to token ids, through a model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nextn.files import TokenizerData
from nextn.text.chat_template import ChatTemplate
from nextn.text.shield import Shield
from nextn.text.tokenizer import Tokenizer


class ChatEncoder:
    """Encodes conversations of one model.

    Args:
        source: its chat template.
        data: its tokenizer data, which says whether a text begins with a token of its own.
        tokenizer: made from that.

    Attributes:
        template: the compiled template.

    Raises:
        TemplateError: the template is broken.
    """

    def __init__(self, source: str, data: TokenizerData, tokenizer: Tokenizer) -> None:
        def text_of(token: int | None) -> str:
            return "" if token is None else tokenizer.token_text(token)

        self.template = ChatTemplate(
            source, bos_token=text_of(data.bos_id), eos_token=text_of(data.eos_id)
        )
        self._tokenizer = tokenizer
        self._begin = [data.bos_id] if data.add_bos and data.bos_id is not None else []

    def prompt(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        """The token ids up to where the answer begins; control tokens in messages are plain text.

        Raises:
            TemplateError: the template refuses these messages.
        """
        shield = self.shield()
        text = self.template.render([shield.protect(each) for each in messages], **variables)
        return self.encode(text, shield)

    def shield(self) -> Shield:
        """What keeps the texts of control tokens in messages plain text."""
        return Shield(self._tokenizer.control_splitter)

    def encode(self, text: str, shield: Shield) -> list[int]:
        """The token ids of what the template wrote, or of a part from its beginning on.

        Args:
            text: written with messages that the shield protected.
            shield: that one.
        """
        tokens = self._tokenizer.encode(
            text, add_special=False, parse_special=True, leave_out=shield.mark
        )
        # Some templates write the begin token themselves, others leave it to the tokenizer.
        begins = tokens[: len(self._begin)] == self._begin
        return tokens if begins else [*self._begin, *tokens]
