"""Writes the text of one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nextn.engine import Statistics
from nextn.prompts import Prompt

if TYPE_CHECKING:
    from nextn.model import Model


def write_prompt(
    model: Model, prompt: Prompt, **options: Any
) -> tuple[list[int], list[int], Statistics]:
    """Answer a prompt with an empty cache; a model without a chat template continues it.

    Args:
        model: used by nobody else.
        prompt: the conversation.
        options: as of `Model.stream`.

    Returns:
        The tokens of the prompt and of the text, and its statistics.

    Raises:
        RequestError: the prompt does not fit the model's context.
    """
    model.engine.cache.reset()
    if model.checkpoint.chat_template is None:
        text = "\n\n".join(message["content"] for message in prompt.messages)
        stream = model.stream(text, **options)
    else:
        stream = model.stream_chat(prompt.messages, **options)
    with stream:
        done = stream.collect()
    return stream.prompt, done.tokens, done.statistics
