"""Conversations with tools, in the form that a model's chat template takes them.

Templates differ: some list the tools and some do not, some want arguments as objects and some as
JSON, some know a role for results. What a template cannot write is written here, as text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nextn.errors import TemplateError
from nextn.text.chat_template import ChatTemplate
from nextn.text.dialects.base import Call, Dialect, as_json

Message = Mapping[str, Any]

_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_PROBE_ID = "call00001"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a chat template can write itself.

    Attributes:
        calls: calls that the model made before.
        object_arguments: their arguments as objects; otherwise it wants JSON in a string.
        results: what tools returned, as messages with the role "tool".
        responses: the same, as "tool_responses" of the message with the calls.
    """

    calls: bool
    object_arguments: bool
    results: bool
    responses: bool


def find_abilities(template: ChatTemplate) -> Abilities:
    """Try out what a template does with calls and results."""

    def written(arguments: Any, result: str) -> str:
        call = {"name": "probe_tool", "arguments": arguments}
        try:
            return template.render(
                [
                    {"role": "user", "content": "x"},
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [{"id": _PROBE_ID, "type": "function", "function": call}],
                    },
                    {
                        "role": "tool",
                        "name": "probe_tool",
                        "tool_call_id": _PROBE_ID,
                        "content": result,
                    },
                ]
            )
        except TemplateError:
            return ""

    as_object = written({"probe_key": "probe value"}, "probe result")
    as_text = written('{"probe_key": "probe value"}', "probe result")
    prompt = as_object if "probe_key" in as_object else as_text
    return Abilities(
        calls="probe_key" in prompt,
        object_arguments="probe_key" in as_object,
        results="probe result" in prompt,
        responses="tool_responses" in template.source and "tool_call_id" not in template.source,
    )


def prepare_conversation(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, Any]],
    dialect: Dialect,
    abilities: Abilities,
) -> list[dict[str, Any]]:
    """Turn a conversation into one that the template can write.

    Args:
        messages: as OpenAI's API has them, with arguments as objects or as JSON.
        tools: those that may be called, as OpenAI's API has them.
        dialect: of the model.
        abilities: of its template.
    """
    new_id = _ids(messages, dialect)
    prepared = [_with_ids(message, new_id) for message in messages]
    if not abilities.calls:
        prepared = _as_text(prepared, dialect)
    else:
        prepared = [_with_arguments(each, abilities.object_arguments) for each in prepared]
        if abilities.responses:
            prepared = _with_responses(prepared)
    if tools and not dialect.lists_tools:
        prepared = _with_tools(prepared, describe_tools(tools, dialect))
    return prepared


def describe_tools(tools: Sequence[Mapping[str, Any]], dialect: Dialect) -> str:
    """What a model is told about tools by a template that does not do it."""
    lines = "\n".join(as_json(tool.get("function", tool)) for tool in tools)
    example = dialect.calls.write([("TOOL", {"PARAMETER": "VALUE"})])
    return (
        "You can use tools. Each line describes one, with the JSON schema of its parameters:\n"
        f"<tools>\n{lines}\n</tools>\n"
        "To use a tool, write its name and your values in exactly this form, and wait for the "
        f"result:\n{example}"
    )


def _ids(messages: Sequence[Message], dialect: Dialect) -> Callable[[str], str]:
    """How the ids of a conversation are written."""
    if dialect.ids == "short":
        return lambda identity: (
            identity
            if _SHORT_ID.fullmatch(identity)
            else hashlib.sha256(identity.encode(errors="replace")).hexdigest()[:9]
        )
    if dialect.ids == "numbered":
        calls = [call for message in messages for call in message.get("tool_calls") or ()]
        numbers = {
            call.get("id"): f"functions.{_function(call).get('name')}:{index}"
            for index, call in enumerate(calls)
        }
        return lambda identity: numbers.get(identity, identity)
    return lambda identity: identity


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function", call)
    return function if isinstance(function, Mapping) else {}


def _with_ids(message: Message, new_id: Callable[[str], str]) -> dict[str, Any]:
    """A copy of a message with content, and with ids that the template takes."""
    copy = dict(message)
    if copy.get("content") is None:
        copy["content"] = ""
    if isinstance(copy.get("tool_call_id"), str):
        copy["tool_call_id"] = new_id(copy["tool_call_id"])
    if copy.get("tool_calls"):
        copy["tool_calls"] = [
            {**call, "id": new_id(call["id"])} if isinstance(call.get("id"), str) else call
            for call in copy["tool_calls"]
        ]
    return copy


def _with_arguments(message: dict[str, Any], as_object: bool) -> dict[str, Any]:
    """A message whose calls have arguments as the template takes them."""
    calls = []
    for call in message.get("tool_calls") or ():
        function = _function(call)
        parsed, text = _arguments(function.get("arguments"))
        arguments = parsed if as_object else text
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**message, "tool_calls": calls} if calls else message


def _arguments(given: Any) -> tuple[Any, str]:
    """Arguments as an object, or as they are if they are none, and as JSON."""
    if not isinstance(given, str):
        given = given or {}
        return given, as_json(given)
    try:
        parsed = json.loads(given or "{}")
    except (ValueError, RecursionError):
        parsed = None
    return (parsed if isinstance(parsed, dict) else given), given or "{}"


def _with_responses(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results put into the message with the calls."""
    prepared: list[dict[str, Any]] = []
    for message in messages:
        calls = prepared[-1].get("tool_calls") if prepared else None
        if message.get("role") != "tool" or not calls:
            prepared.append(message)
            continue
        responses = prepared[-1].setdefault("tool_responses", [])
        by_id = {call.get("id"): _function(call).get("name") for call in calls}
        in_order = _function(calls[min(len(responses), len(calls) - 1)]).get("name")
        name = message.get("name") or by_id.get(message.get("tool_call_id")) or in_order
        content = message["content"]
        parsed, _ = _arguments(content) if isinstance(content, str) else (content, "")
        responses.append({"name": name, "response": parsed})
    return prepared


def _as_text(messages: list[dict[str, Any]], dialect: Dialect) -> list[dict[str, Any]]:
    """Calls and results as text of the model and of the user."""
    prepared: list[dict[str, Any]] = []
    after_result = False
    for message in messages:
        if message.get("role") == "tool":
            result = f"<tool_response>\n{_text(message['content'])}\n</tool_response>"
            if after_result:
                prepared[-1]["content"] += f"\n{result}"
            else:
                prepared.append({"role": "user", "content": result})
            after_result = True
            continue
        after_result = False
        written = dialect.calls.write(_written_calls(message)) if message.get("tool_calls") else ""
        if written:
            content = "\n".join(filter(None, [_text(message["content"]), written]))
            message = {**message, "content": content}
            del message["tool_calls"]
        prepared.append(message)
    return prepared


def _written_calls(message: Message) -> list[Call]:
    calls: list[Call] = []
    for call in message["tool_calls"]:
        function = _function(call)
        arguments, _ = _arguments(function.get("arguments"))
        calls.append((str(function.get("name")), arguments if isinstance(arguments, dict) else {}))
    return calls


def _text(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _with_tools(messages: list[dict[str, Any]], description: str) -> list[dict[str, Any]]:
    """The description of the tools in the system message."""
    first = messages[0] if messages else {}
    if first.get("role") == "system" and isinstance(first["content"], str):
        content = f"{first['content']}\n\n{description}".strip()
        return [{**first, "content": content}, *messages[1:]]
    return [{"role": "system", "content": description}, *messages]
