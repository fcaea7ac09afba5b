"""What requests of Ollama's API ask for, in the words of the shared code."""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec
from msgspec import UNSET

from nextn.server.chat import ChatRequest
from nextn.server.errors import bad_field
from nextn.server.fields import stop_strings
from nextn.server.ollama_types import ChatBody, GenerateBody, Message, Options, WritingRequest
from nextn.server.writing import Writing

NAMES = {
    "json_schema": "format",
    "response_format": "format",
    "max_tokens": "options.num_predict",
    "draft": "options.mtp",
    "logprobs": "top_logprobs",
    **{
        name: f"options.{name}"
        for name in (
            "stop",
            "seed",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "typical_p",
            "repeat_penalty",
            "repeat_last_n",
            "presence_penalty",
            "frequency_penalty",
        )
    },
}
"""What this API calls fields that the shared code has other names for."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def keep_alive_seconds(given: float | str) -> float | None:
    """How long a model stays loaded; None for ever.

    Args:
        given: seconds, or text as Go writes durations, such as "1h30m"; less than 0 is for ever.

    Raises:
        ApiError: it is neither.
    """
    text = given if isinstance(given, str) else repr(given)
    sign, digits = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    parts = _DURATION.findall(digits)
    if parts and "".join(number + unit for number, unit in parts) == digits:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(digits)
        except ValueError:
            seconds = math.nan
    if not math.isfinite(seconds):
        raise bad_field(
            "keep_alive", f"is {text[:40]!r}; allowed: seconds, or text such as '5m' or '-1'"
        )
    return None if sign < 0 and seconds > 0 else seconds


def writing_of(body: WritingRequest) -> Writing:
    """How the text is to be written.

    Raises:
        ApiError: options that contradict each other, or have no meaning.
    """
    options = body.options or Options()
    limit = options.num_predict
    if limit == 0:
        raise bad_field("options.num_predict", "is 0; allowed: an integer from 1, or -1")
    if body.top_logprobs is not None and not body.logprobs:
        raise bad_field("top_logprobs", "needs 'logprobs': true")
    draft: str | int | None = options.mtp
    if draft is None:
        draft = options.draft_num_predict
    elif options.draft_num_predict is not None:
        raise bad_field("options.mtp", "is the same as draft_num_predict; give one of them")
    form: dict[str, Any] = {}
    if isinstance(body.format, dict):
        form = {"json_schema": body.format}
    elif body.format:
        form = {"response_format": {"type": "json_object"}}
    return Writing(
        sampling={
            "seed": options.seed,
            "temperature": options.temperature,
            "top_k": options.top_k,
            "top_p": options.top_p,
            "min_p": options.min_p,
            "typical_p": options.typical_p,
            "repeat_penalty": options.repeat_penalty,
            "repeat_last_n": options.repeat_last_n,
            "presence_penalty": options.presence_penalty,
            "frequency_penalty": options.frequency_penalty,
            "logprobs": (body.top_logprobs or 0) if body.logprobs else None,
        },
        max_tokens=None if limit is None or limit < 0 else limit,
        stop=stop_strings(options.stop),
        draft="off" if draft == 0 else draft,
        form=form,
    )


def _variables(body: WritingRequest) -> dict[str, Any]:
    if body.think is None:
        return {}
    if isinstance(body.think, str):
        return {"enable_thinking": True, "reasoning_effort": body.think}
    return {"enable_thinking": body.think}


def chat_request(body: ChatBody, messages: list[Message]) -> ChatRequest:
    """The conversation of /api/chat.

    Raises:
        ApiError: it cannot be answered.
    """
    if messages[-1].role == "assistant":
        raise bad_field(
            f"messages[{len(messages) - 1}].role",
            "the last message must be of the user; an answer cannot be begun for the model",
        )
    return ChatRequest(
        messages=[_template_message(message) for message in messages],
        tools=[
            {"type": "function", "function": msgspec.to_builtins(tool.function)}
            for tool in body.tools or ()
        ],
        template=_variables(body),
        writing=writing_of(body),
    )


def _template_message(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content or ""}
    for name, value in (
        ("reasoning_content", message.thinking),
        ("name", message.tool_name),
        ("tool_call_id", message.tool_call_id),
    ):
        if value is not None:
            made[name] = value
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "type": "function",
                **({} if call.id is UNSET else {"id": call.id}),
                "function": {
                    "name": call.function.name,
                    "arguments": call.function.arguments,
                },
            }
            for call in message.tool_calls
        ]
    return made


def generate_request(body: GenerateBody, prompt: str) -> ChatRequest:
    """The conversation of /api/generate; raises as above."""
    system = [{"role": "system", "content": body.system}] if body.system else []
    return ChatRequest(
        messages=[*system, {"role": "user", "content": prompt}],
        template=_variables(body),
        writing=writing_of(body),
    )
