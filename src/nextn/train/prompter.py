"""How a model is asked: with its chat template, or, if it has none, with plain text."""

from __future__ import annotations

from collections.abc import Sequence

from nextn.errors import TemplateError
from nextn.files import Checkpoint
from nextn.text.chat_template import ChatTemplate
from nextn.text.shield import Shield
from nextn.text.tokenizer import Tokenizer
from nextn.train.tasks import Prompter

# Stands for a question in a rendered template, to find where it begins; private use characters.
_QUESTION = "\ue000question\ue001"


def make_prompter(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Prompter:
    """The prompter that suits a model.

    Raises:
        TemplateError: its chat template is broken.
    """
    if checkpoint.chat_template is None:
        return PlainPrompter(tokenizer)
    return ChatPrompter(checkpoint, tokenizer)


class ChatPrompter:
    """Asks with the chat template; see `Prompter`."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
        data = checkpoint.tokenizer

        def text_of(token: int | None) -> str:
            return "" if token is None else tokenizer.token_text(token)

        self._tokenizer = tokenizer
        self._begin = [data.bos_id] if data.add_bos and data.bos_id is not None else []
        self._template = ChatTemplate(
            checkpoint.chat_template or "",
            bos_token=text_of(data.bos_id),
            eos_token=text_of(data.eos_id),
        )

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """See `Prompter`."""
        shield = Shield(self._tokenizer.control_splitter)
        text = self._template.render([shield.protect(message) for message in messages])
        return self._encode(text, shield)

    def question(self, examples: Sequence[str]) -> list[int] | None:
        """See `Prompter`; without the examples if the template refuses turns without answers."""
        for turns in (examples, ()):
            shield = Shield(self._tokenizer.control_splitter)
            users = [shield.protect({"role": "user", "content": text}) for text in turns]
            last = {"role": "user", "content": _QUESTION}
            try:
                text = self._template.render([*users, last])
            except TemplateError:
                continue
            before, found, _ = text.partition(_QUESTION)
            if found:
                return self._encode(before, shield)
        return None

    def text(self, tokens: Sequence[int]) -> str:
        """See `Prompter`."""
        return self._tokenizer.decode(tokens, skip_special=True)

    def _encode(self, text: str, shield: Shield) -> list[int]:
        tokens = self._tokenizer.encode(
            text, add_special=False, parse_special=True, leave_out=shield.mark
        )
        begins = tokens[: len(self._begin)] == self._begin
        return tokens if begins else [*self._begin, *tokens]


class PlainPrompter:
    """Continues the last thing the user said, as plain text; see `Prompter`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """See `Prompter`."""
        return self._tokenizer.encode(messages[-1]["content"])

    def question(self, examples: Sequence[str]) -> list[int] | None:
        """There are no turns."""
        del examples
        return None

    def text(self, tokens: Sequence[int]) -> str:
        """See `Prompter`."""
        return self._tokenizer.decode(tokens, skip_special=True)
