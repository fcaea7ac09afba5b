"""From conversations to token ids, through a model's chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from nextn.files import TokenizerData
from nextn.text.chat_template import ChatTemplate
from nextn.text.dialects import Dialect, find_dialect
from nextn.text.dialects.conversation import Abilities, find_abilities, prepare_conversation
from nextn.text.shield import Shield
from nextn.text.tokenizer import Tokenizer

_OPENING_TOKENS = 32
"""Tokens at the end of a prompt that hold the mark of reasoning, whatever it is made of."""

_TRUSTED = ("bos_token", "eos_token")
"""Variables of a template that are control tokens."""


def _is_about_tools(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "tool" or bool(message.get("tool_calls"))


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

    @cached_property
    def dialect(self) -> Dialect:
        """How the model writes reasoning and tool calls."""
        return find_dialect(self.template.source)

    @cached_property
    def _abilities(self) -> Abilities:
        return find_abilities(self.template)

    def prompt(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> list[int]:
        """The token ids up to where the answer begins; control tokens in messages are plain text.

        Args:
            messages: as OpenAI's API has them. Calls and their results are written as the template
                wants them.
            variables: for the template, among them `tools`, which the template or a system message
                lists.

        Raises:
            TemplateError: the template refuses these messages.
        """
        tools = variables.get("tools") or ()
        if tools or any(map(_is_about_tools, messages)):
            messages = prepare_conversation(messages, tools, self.dialect, self._abilities)
        shield = self.shield()
        given = {
            name: value if name in _TRUSTED else shield.protect(value)
            for name, value in variables.items()
        }
        text = self.template.render([shield.protect(each) for each in messages], **given)
        return self.encode(text, shield)

    def opening(self, prompt: Sequence[int]) -> str:
        """The end of a prompt's text, where reasoning may have been opened."""
        return self._tokenizer.decode(prompt[-_OPENING_TOKENS:])

    def marks(self, *, tools: bool) -> frozenset[int]:
        """The control tokens that are part of what the dialect's parser reads.

        Args:
            tools: whether there are tools that may be called.
        """
        texts = self.dialect.marks(tools=tools)
        special = self._tokenizer.special - self._tokenizer.end_of_generation
        return frozenset(i for i in special if self._tokenizer.token_text(i) in texts)

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
