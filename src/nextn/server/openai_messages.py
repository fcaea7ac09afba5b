"""OpenAI's messages and tools, and what they are for a chat template."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nextn.server.errors import ApiError, bad_field


class ContentPart(msgspec.Struct, kw_only=True):
    """One part of a message; only text can be read."""

    type: str
    text: str | None = None


class CallFunction(msgspec.Struct, kw_only=True):
    """The function of a call that the model made earlier; arguments are JSON in a string."""

    name: str
    arguments: str | dict[str, Any] = "{}"


class Call(msgspec.Struct, kw_only=True):
    """A call that the model made earlier."""

    function: CallFunction
    id: str | None = None
    type: Literal["function"] = "function"


class Message(msgspec.Struct, kw_only=True):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class Function(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A function that the model may call; parameters are a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, kw_only=True):
    """A tool that the model may call."""

    function: Function
    type: Literal["function"] = "function"


class NamedFunction(msgspec.Struct, kw_only=True):
    """Part of `NamedTool`."""

    name: str


class NamedTool(msgspec.Struct, kw_only=True):
    """The tool that must be called."""

    function: NamedFunction
    type: Literal["function"] = "function"


def template_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """The messages as chat templates take them.

    Raises:
        ApiError: a message that cannot be read; named by its place.
    """
    return [_template_message(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _template_message(message: Message, place: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        # Templates know no "developer", which is OpenAI's new word for "system".
        "role": "system" if message.role == "developer" else message.role,
        "content": content_text(message.content, f"{place}.content"),
    }
    if message.name is not None:
        result["name"] = message.name
    if message.tool_call_id is not None:
        result["tool_call_id"] = message.tool_call_id
    if message.reasoning_content is not None:
        result["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "type": "function",
                **({} if call.id is None else {"id": call.id}),
                "function": {
                    "name": call.function.name,
                    "arguments": call_arguments(
                        call.function.arguments,
                        f"{place}.tool_calls[{index}].function.arguments",
                    ),
                },
            }
            for index, call in enumerate(message.tool_calls)
        ]
    elif message.content is None:
        raise bad_field(f"{place}.content", "missing; this message has neither text nor calls")
    return result


def content_text(content: str | list[ContentPart] | None, place: str) -> str:
    """The text of a message; parts are joined by line breaks.

    Raises:
        ApiError: a part that is no text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for index, part in enumerate(content):
        if part.type not in ("text", "input_text", "output_text"):
            raise bad_field(
                f"{place}[{index}].type",
                f"{part.type[:40]!r} cannot be read by this model; allowed: 'text'",
            )
        if part.text is None:
            raise bad_field(f"{place}[{index}].text", "missing; this field is required")
        texts.append(part.text)
    return "\n".join(texts)


def call_arguments(arguments: str | dict[str, Any], place: str) -> dict[str, Any]:
    """The arguments of a call as an object, which templates write in their own way.

    Raises:
        ApiError: they are no JSON object; NaN, numbers that are too large and half characters are
            no JSON.
    """
    if isinstance(arguments, dict):
        return arguments
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ApiError(
            400, f"{place}: no JSON object in a string", field=place, code="invalid_value"
        ) from error


def template_tools(tools: list[Tool] | None) -> list[dict[str, Any]]:
    """The tools as chat templates take them."""
    return [] if tools is None else [msgspec.to_builtins(tool) for tool in tools]
