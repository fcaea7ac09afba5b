"""How a model is asked: with its chat template, or, if it has none, with plain text."""

from __future__ import annotations

from collections.abc import Sequence

from nextn.errors import TemplateError
from nextn.files import Checkpoint
from nextn.text.chat_encoder import ChatEncoder
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
        self._tokenizer = tokenizer
        self._encoder = ChatEncoder(checkpoint.chat_template or "", checkpoint.tokenizer, tokenizer)

    def prompt(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """See `Prompter`."""
        return self._encoder.prompt(messages)

    def question(self, examples: Sequence[str]) -> list[int] | None:
        """See `Prompter`; without the examples if the template refuses turns without answers."""
        for turns in (examples, ()):
            shield = self._encoder.shield()
            users = [shield.protect({"role": "user", "content": text}) for text in turns]
            last = {"role": "user", "content": _QUESTION}
            try:
                text = self._encoder.template.render([*users, last])
            except TemplateError:
                continue
            before, found, _ = text.partition(_QUESTION)
            if found:
                return self._encoder.encode(before, shield)
        return None

    def text(self, tokens: Sequence[int]) -> str:
        """See `Prompter`."""
        return self._tokenizer.decode(tokens, skip_special=True)


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
