"""Chat templates: from messages to the prompt that a model was trained on.

A template is a Jinja program that comes with the model file. It runs in a sandbox with limits on
time, memory and output; see `template_limits`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2.exceptions import TemplateSyntaxError

from nextn.errors import TemplateError
from nextn.text.template_limits import MAX_DEPTH, MAX_TEMPLATE, LimitError, check_length, metered
from nextn.text.template_sandbox import TemplateEnvironment
from nextn.text.template_values import text

MAX_MESSAGE = 500
"""Longest error text taken over from a template, in characters."""

# Of an object, as Python shows one that has no text of its own.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_MOST_READ = 4 * MAX_MESSAGE

_ENVIRONMENT = TemplateEnvironment()


class ChatTemplate:
    """A compiled chat template; safe to share between threads.

    Args:
        source: the template, as in `tokenizer.chat_template`.
        bos_token: text of the token that begins a sequence, for the template to place; may be "".
        eos_token: text of the token that ends one; may be "".

    Raises:
        TemplateError: the template is too long, not valid or uses what it may not.
    """

    def __init__(self, source: str, *, bos_token: str, eos_token: str) -> None:
        if len(source) > MAX_TEMPLATE:
            raise TemplateError(
                f"chat template: has {len(source)} characters; at most {MAX_TEMPLATE} are allowed"
            )
        self.source = source
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        problem = ""
        try:
            with metered():
                self._template = _ENVIRONMENT.load(source)
        # Whatever a template makes Jinja or the Python compiler raise is a fault of the template.
        except Exception as error:
            problem = _describe(error)
        if problem:
            raise TemplateError(problem)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **variables: Any,
    ) -> str:
        """Return the prompt for a conversation.

        Args:
            messages: each has at least "role" and "content"; values as in JSON.
            add_generation_prompt: end with the opening of the model's reply.
            tools: JSON schemas of functions that the model may call.
            variables: further variables of the template, such as `enable_thinking`; they may
                replace `bos_token` and `eos_token`.

        Raises:
            TemplateError: the template refuses the conversation, reaches a limit or fails.
        """
        prompt, problem = self._attempt(
            {
                **self._tokens,
                "documents": None,
                "tools": tools,
                **variables,
                "messages": messages,
                "add_generation_prompt": add_generation_prompt,
            }
        )
        if problem:
            raise TemplateError(problem)
        return prompt

    def _attempt(self, variables: Mapping[str, Any]) -> tuple[str, str]:
        """Return the text, or else what went wrong.

        It is not raised from here, so that no traceback keeps the template's values alive.
        """
        pieces: list[str] = []
        length = 0
        try:
            context = self._template.new_context(_plain(variables))
            with metered():
                for piece in self._template.root_render_func(context):
                    # What a filter block makes need not be text yet.
                    printed = text(piece)
                    length += len(printed)
                    check_length(length)
                    pieces.append(printed)
        # Whatever untrusted code raises, up to exhausted recursion, is a fault of the template.
        except Exception as error:
            return "", _describe(error)
        return "".join(pieces), ""


def _plain(value: Any, depth: int = 0) -> Any:
    """Copy a value into plain JSON types, which have no methods that a template could misuse."""
    if depth > MAX_DEPTH:
        raise LimitError(f"the values given to it nest more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    raise TypeError(f"a value of type {type(value).__name__} was given to it; pass JSON values")


def _describe(error: Exception) -> str:
    """Return one line: where in the template, and what happened."""
    if isinstance(error, TemplateSyntaxError):
        line: int | None = error.lineno
        reason = error.message or ""
    else:
        line = _line(error)
        reason = str(error)
    if isinstance(error, RecursionError):
        reason = "calls itself too deeply"
    place = f"chat template, line {line}" if line else "chat template"
    # Cut first: the words of a long text take many times its memory.
    words = _ADDRESS.sub("", " ".join(reason[:_MOST_READ].split()))[:MAX_MESSAGE]
    spelled = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return f"{place}: {spelled or type(error).__name__}"


def _line(error: Exception) -> int | None:
    """Return the line of the template that was running, if any."""
    line: int | None = None
    trace = error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
