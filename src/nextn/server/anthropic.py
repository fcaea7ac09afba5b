"""Anthropic's /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.responses import Response

from nextn.server.anthropic_types import (
    Answer,
    AnswerBlock,
    AnswerToolUse,
    ChooseAny,
    ChooseNone,
    ChooseTool,
    CountTokensRequest,
    Delta,
    Event,
    Message,
    MessagesRequest,
    RedactedThinking,
    StopReason,
    TextBlock,
    ThinkingBlock,
    ThinkingDisabled,
    ThinkingEnabled,
    TokenCount,
    ToolResult,
    ToolUse,
    Usage,
)
from nextn.server.chat import ChatRequest, ChatStream, chat_prompt, open_chat
from nextn.server.errors import ApiError, bad_field, named_as, to_api_error
from nextn.server.operation import Call, Family, Operation, json_response
from nextn.server.streaming import EventStream, closed_when_left, sse
from nextn.server.whole_calls import CallCollector
from nextn.server.writing import Writing
from nextn.text import dialects

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_EMPTY = msgspec.Raw(b"{}")

_NAMES = {
    "tools[*].function.name": "tools[*].name",
    "tools[*].function.parameters": "tools[*].input_schema",
    "json_schema": "output_config.format.schema",
    "stop": "stop_sequences",
    "max_tokens": "max_tokens",
    "draft": "mtp",
    "prompt": "messages",
}
"""What this API calls fields that the chat code has other names for."""

_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def anthropic_shape(problem: ApiError) -> dict[str, Any]:
    """Anthropic's: `{"type": "error", "error": {"type", "message"}}`."""
    other = "api_error" if problem.status >= 500 else "invalid_request_error"
    kind = _ERROR_TYPES.get(problem.status, other)
    return {"type": "error", "error": {"type": kind, "message": problem.message}}


def chat_request(body: CountTokensRequest) -> ChatRequest:
    """What a body asks for.

    Raises:
        ApiError: it cannot be served.
    """
    if body.messages and body.messages[-1].role == "assistant":
        raise bad_field(
            f"messages[{len(body.messages) - 1}].role",
            "the last message must be of the user; an answer cannot be begun for the model",
        )
    messages: list[dict[str, Any]] = []
    if body.system:
        messages.append({"role": "system", "content": _text(body.system)})
    for place, message in enumerate(body.messages):
        messages += _template_messages(message, f"messages[{place}]")
    choice = body.tool_choice
    return ChatRequest(
        messages=messages,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.input_schema,
                },
            }
            for tool in body.tools or ()
        ],
        tool_choice=_tool_choice(body),
        parallel_tool_calls=not getattr(choice, "disable_parallel_tool_use", False),
        template=_variables(body),
        writing=_writing(body) if isinstance(body, MessagesRequest) else Writing(),
        reasoning_budget=(
            body.thinking.budget_tokens if isinstance(body.thinking, ThinkingEnabled) else None
        ),
    )


def _tool_choice(body: CountTokensRequest) -> str:
    choice = body.tool_choice
    if isinstance(choice, ChooseTool):
        return choice.name
    if isinstance(choice, ChooseAny):
        return "required"
    return "none" if isinstance(choice, ChooseNone) else "auto"


def _variables(body: CountTokensRequest) -> dict[str, Any]:
    """Variables of the template; what is not asked for is left to it."""
    variables: dict[str, Any] = {}
    if body.thinking is not None:
        variables["enable_thinking"] = not isinstance(body.thinking, ThinkingDisabled)
    if body.output_config is not None and body.output_config.effort is not None:
        variables["reasoning_effort"] = body.output_config.effort
    return variables


def _writing(body: MessagesRequest) -> Writing:
    form = body.output_config.format if body.output_config is not None else None
    return Writing(
        sampling={
            "temperature": body.temperature,
            "top_k": body.top_k,
            "top_p": body.top_p,
            "min_p": body.min_p,
            "seed": body.seed,
        },
        max_tokens=body.max_tokens,
        stop=tuple(body.stop_sequences or ()),
        draft="off" if body.mtp == 0 else body.mtp,
        form={} if form is None else {"json_schema": form.schema},
    )


def _text(content: str | list[TextBlock] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(block.text for block in content)


def _template_messages(message: Message, place: str) -> list[dict[str, Any]]:
    """The messages that one is for a chat template: results of tools are messages of their own."""
    if isinstance(message.content, str):
        return [{"role": message.role, "content": message.content}]
    results: list[dict[str, Any]] = []
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(message.content):
        kinds = _ALLOWED[message.role]
        if not isinstance(block, kinds):
            kind = type(block).__struct_config__.tag
            raise bad_field(
                f"{place}.content[{index}].type", f"{kind!r} cannot be in a message of this role"
            )
        match block:
            case TextBlock():
                texts.append(block.text)
            case ThinkingBlock():
                thoughts.append(block.thinking)
            case ToolUse():
                function = {"name": block.name, "arguments": block.input}
                calls.append({"id": block.id, "type": "function", "function": function})
            case ToolResult():
                results.append(
                    {
                        "role": "tool",
                        "tool_call_id": block.tool_use_id,
                        "content": _text(block.content),
                    }
                )
    own: dict[str, Any] = {"role": message.role, "content": "\n".join(texts)}
    if thoughts:
        own["reasoning_content"] = "\n".join(thoughts)
    if calls:
        own["tool_calls"] = calls
    return [*results, own] if texts or calls or not results else results


_ALLOWED: dict[str, tuple[type, ...]] = {
    "system": (TextBlock,),
    "user": (TextBlock, ToolResult),
    "assistant": (TextBlock, ThinkingBlock, RedactedThinking, ToolUse),
}


def _tool_id() -> str:
    return f"toolu_{secrets.token_hex(12)}"


class _Message:
    """What a stream becomes."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream
        self._id = f"msg_{secrets.token_hex(12)}"
        self._index = -1
        self._open: type[AnswerBlock] | None = None

    def _answer(self, content: list[AnswerBlock]) -> Answer:
        return Answer(id=self._id, model=self._stream.model, content=content, usage=self._usage())

    def _usage(self) -> Usage:
        statistics = self._stream.statistics
        return Usage(
            input_tokens=statistics.prompt_tokens - statistics.cached_tokens,
            output_tokens=statistics.tokens,
            cache_read_input_tokens=statistics.cached_tokens,
        )

    def _end(self) -> tuple[StopReason, str | None]:
        reason = self._stream.finish_reason
        if reason == "length":
            return "max_tokens", None
        stop = self._stream.stop_sequence
        if stop is not None:
            return "stop_sequence", stop
        return ("tool_use" if reason == "tool_calls" else "end_turn"), None

    async def whole(self) -> Answer:
        """The answer in one piece."""
        parts: list[dialects.Delta] = []
        async for delta in self._stream:
            parts += delta.parts
        answer = self._answer(_blocks(parts))
        answer.stop_reason, answer.stop_sequence = self._end()
        called = any(isinstance(block, AnswerToolUse) for block in answer.content)
        if answer.stop_reason == "tool_use" and not called:
            answer.stop_reason = "end_turn"  # all calls broke off, and are text
        answer.timings = self._stream.timings
        return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The events of a streamed answer."""
        try:
            yield _event(Event(type="message_start", message=self._answer([])))
            async for delta in self._stream:
                for part in delta.parts:
                    for event in self._part_events(part):
                        yield _event(event)
            for event in self._close_block():
                yield _event(event)
            reason, stop = self._end()
            last = Delta(stop_reason=reason, stop_sequence=stop)
            yield _event(
                Event(
                    type="message_delta",
                    delta=last,
                    usage=self._usage(),
                    timings=self._stream.timings,
                )
            )
            yield _event(Event(type="message_stop"))
        except Exception as error:
            yield sse(anthropic_shape(to_api_error(error)), b"error")

    def _part_events(self, part: dialects.Delta) -> list[Event]:
        match part:
            case dialects.Text(text):
                begin = self._open_block(TextBlock(text=""))
                return [*begin, self._added(Delta(type="text_delta", text=text))]
            case dialects.Reasoning(text):
                begin = self._open_block(ThinkingBlock(thinking=""))
                return [*begin, self._added(Delta(type="thinking_delta", thinking=text))]
            case dialects.CallBegin(_, name):
                use = AnswerToolUse(id=_tool_id(), name=name, input=_EMPTY)
                return [*self._close_block(), *self._open_block(use)]
            case dialects.CallArguments(_, text) if text:
                return [self._added(Delta(type="input_json_delta", partial_json=text))]
        return []

    def _added(self, delta: Delta) -> Event:
        return Event(type="content_block_delta", index=self._index, delta=delta)

    def _open_block(self, block: AnswerBlock) -> list[Event]:
        """The events that make a kind of block the present one, if it is not."""
        if self._open is type(block):
            return []
        closed = self._close_block()
        self._open = type(block)
        self._index += 1
        begin = Event(type="content_block_start", index=self._index, content_block=block)
        return [*closed, begin]

    def _close_block(self) -> list[Event]:
        if self._open is None:
            return []
        events = [Event(type="content_block_stop", index=self._index)]
        if self._open is ThinkingBlock:
            # Clients wait for a signature; nobody checks it here.
            events.insert(0, self._added(Delta(type="signature_delta", signature="")))
        self._open = None
        return events


def _event(event: Event) -> bytes:
    return sse(event, event.type.encode())


def _blocks(parts: list[dialects.Delta]) -> list[AnswerBlock]:
    """The blocks of an answer. A call whose input is no whole object is text."""
    blocks: list[AnswerBlock] = []
    calls = CallCollector()
    for part in parts:
        match part:
            case dialects.Reasoning(text):
                last = blocks[-1] if blocks else None
                if isinstance(last, ThinkingBlock):
                    last.thinking += text
                else:
                    blocks.append(ThinkingBlock(thinking=text))
            case dialects.Text(text):
                _add_text(blocks, text)
            case _:
                call = calls.take(part)
                if isinstance(call, str):
                    _add_text(blocks, call)
                elif call is not None:
                    value = msgspec.Raw(call.arguments.encode())
                    blocks.append(AnswerToolUse(id=_tool_id(), name=call.name, input=value))
    return blocks


def _add_text(blocks: list[AnswerBlock], text: str) -> None:
    last = blocks[-1] if blocks else None
    if isinstance(last, TextBlock):
        last.text += text
    else:
        blocks.append(TextBlock(text=text))


async def create_message(call: Call[MessagesRequest]) -> Response:
    """Answer a conversation, streamed or in one piece."""
    body = call.body
    with named_as(_NAMES):
        (stream,) = await open_chat(call.server, body.model, chat_request(body))
    message = _Message(stream)
    if body.stream:
        seconds = call.server.settings.ping_seconds
        return EventStream(message.events(), stream.close, ping=_PING, ping_seconds=seconds)
    async with closed_when_left(call.request, stream.close):
        return json_response(await message.whole())


async def count_tokens(call: Call[CountTokensRequest]) -> Response:
    """Count the tokens that a conversation becomes."""
    with named_as(_NAMES):
        request = chat_request(call.body)
        with await call.server.models.acquire(call.body.model) as lease:
            prompt = await asyncio.to_thread(chat_prompt, lease.loaded.model, request)
    return json_response(TokenCount(input_tokens=len(prompt)))


FAMILY = Family(
    name="Anthropic messages",
    prefixes=("/v1/messages",),
    error_shape=anthropic_shape,
    setting_names=_NAMES,
    operations=(
        Operation(
            method="POST",
            path="/v1/messages",
            handle=create_message,
            summary="Answer a conversation",
            body=MessagesRequest,
            answer=Answer,
            event=Event,
        ),
        Operation(
            method="POST",
            path="/v1/messages/count_tokens",
            handle=count_tokens,
            summary="Count the tokens of a conversation",
            body=CountTokensRequest,
            answer=TokenCount,
        ),
    ),
)
