"""Fuzz target: a chat template, rendered with a few conversations under its limits."""

from __future__ import annotations

import re
import time
from functools import partial

from fuzz.instrument import instrumented

with instrumented("nextn", "jinja2"):
    from nextn.text import chat_template
    from nextn.text.chat_template import ChatTemplate
    from nextn.text.template_limits import MAX_TEXT, metered

from fuzz.harness import WrongResultError, start
from fuzz.template_mutator import mutate
from nextn.errors import NextnError

SECONDS = 0.3
"""The limit of one rendering here: loops without end would take up most of the time otherwise."""

MOST_SECONDS = 6.0
"""Longest time for all that is done with one input, on a machine that has other work, too."""

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"a": {"type": "string"}}}}]
CONVERSATIONS = [
    [],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a <b> {{ c }}\n\u00e9"},
    ],
    [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"n": 2**70}}]},
        {"role": "tool", "content": "1.5", "x": float("inf"), "y": [True, None, -1]},
    ],
]
# What Python prints for a function or an object without a text of its own.
_ADDRESS = re.compile(r"<[\w. ]+ at 0x[0-9a-f]{6,}>")

chat_template.metered = partial(metered, SECONDS)


def test_one_input(content: bytes) -> None:
    """Compile and render."""
    source = content.decode("utf-8", "surrogateescape")
    begin = time.monotonic()
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>")
    for conversation in CONVERSATIONS:
        try:
            text = template.render(conversation, tools=TOOLS if conversation else None)
        except NextnError as error:
            text = str(error)
            if "\n" in text:
                raise WrongResultError("an error of several lines") from error
        if len(text) > MAX_TEXT:
            raise WrongResultError("longer than allowed")
        if _ADDRESS.search(text) and not _ADDRESS.search(source):
            raise WrongResultError(f"shows an address: {text[:200]!r}")
    if time.monotonic() - begin > MOST_SECONDS:
        raise WrongResultError("took too long")


if __name__ == "__main__":
    start(test_one_input, mutate)
