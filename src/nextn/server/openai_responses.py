"""OpenAI's /v1/responses. Answers are not kept: every request has its whole conversation."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.responses import Response

from nextn.server.chat import ChatDelta, ChatRequest, ChatStream, open_chat
from nextn.server.errors import bad_field, named_as, to_api_error
from nextn.server.openai_chat import effort_variables
from nextn.server.openai_messages import call_arguments, content_text
from nextn.server.openai_types import logprobs_of
from nextn.server.operation import Call, Family, Operation, json_response
from nextn.server.part_tokens import PartTokens
from nextn.server.responses_items import OutputItems
from nextn.server.responses_types import (
    IncompleteDetails,
    InputDetails,
    InputItem,
    NamedFunction,
    OutputDetails,
    ReasoningConfig,
    ResponseError,
    ResponseEvent,
    ResponseObject,
    ResponsesRequest,
    TextConfig,
    TextFormat,
    Usage,
)
from nextn.server.streaming import EventStream, closed_when_left, sse
from nextn.server.writing import Writing

_NAMES = {
    "tools[*].function.name": "tools[*].name",
    "tools[*].function.parameters": "tools[*].parameters",
    "response_format": "text.format",
    "json_schema": "text.format.schema",
    "max_tokens": "max_output_tokens",
    "messages": "input",
    "prompt": "input",
    "draft": "mtp",
}
"""What this API calls fields that the shared code has other names for."""

_LOGPROBS = "message.output_text.logprobs"


def chat_request(body: ResponsesRequest) -> ChatRequest:
    """What a body asks for.

    Raises:
        ApiError: it cannot be served.
    """
    messages: list[dict[str, Any]] = []
    if body.instructions:
        messages.append({"role": "system", "content": body.instructions})
    if isinstance(body.input, str):
        messages.append({"role": "user", "content": body.input})
    else:
        messages += _template_messages(body.input)
    choice = body.tool_choice
    effort = body.reasoning.effort if body.reasoning is not None else None
    return ChatRequest(
        messages=messages,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description or "",
                    "parameters": tool.parameters or {},
                },
            }
            for tool in body.tools or ()
        ],
        tool_choice=choice.name if isinstance(choice, NamedFunction) else choice or "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        template={**effort_variables(effort), **(body.chat_template_kwargs or {})},
        writing=Writing(
            sampling={
                "temperature": body.temperature,
                "top_p": body.top_p,
                "top_k": body.top_k,
                "min_p": body.min_p,
                "seed": body.seed,
                "logprobs": (body.top_logprobs or 0) if wants_logprobs(body) else None,
            },
            max_tokens=body.max_output_tokens,
            draft="off" if body.mtp == 0 else body.mtp,
            cache_prompt=body.cache_prompt is not False,
            form=_form(body.text.format if body.text is not None else None),
        ),
    )


def wants_logprobs(body: ResponsesRequest) -> bool:
    """Whether log probabilities were asked for."""
    return body.top_logprobs is not None or _LOGPROBS in (body.include or ())


def _form(wanted: TextFormat | None) -> dict[str, Any]:
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type == "json_object":
        return {"response_format": {"type": "json_object"}}
    if wanted.schema is None:
        raise bad_field("text.format.schema", "missing; this field is required")
    return {"json_schema": wanted.schema}


def _template_messages(items: list[InputItem]) -> list[dict[str, Any]]:
    """The messages that items are for a chat template: an answer's items become one message."""
    messages: list[dict[str, Any]] = []
    answer: dict[str, Any] | None = None  # the assistant's message that goes on
    for place, item in enumerate(items):
        where = f"input[{place}]"
        of_assistant = item.type in ("function_call", "reasoning") or item.role == "assistant"
        if not of_assistant or item.type == "function_call_output":
            answer = None
            messages.append(_other_message(item, where))
            continue
        if answer is None or (item.type != "function_call" and answer.get("tool_calls")):
            answer = {"role": "assistant", "content": ""}
            messages.append(answer)
        _add_to_answer(answer, item, where)
    return messages


def _other_message(item: InputItem, where: str) -> dict[str, Any]:
    if item.type == "function_call_output":
        return {
            "role": "tool",
            "tool_call_id": _required(item.call_id, f"{where}.call_id"),
            "content": content_text(_required(item.output, f"{where}.output"), f"{where}.output"),
        }
    role = _required(item.role, f"{where}.role")
    content = _required(item.content, f"{where}.content")
    return {
        "role": "system" if role == "developer" else role,
        "content": content_text(content, f"{where}.content"),
    }


def _add_to_answer(answer: dict[str, Any], item: InputItem, where: str) -> None:
    if item.type == "reasoning":
        parts = item.content if isinstance(item.content, list) else []
        texts = [part.text or "" for part in parts] or [part.text for part in item.summary or ()]
        if texts:
            earlier = [answer["reasoning_content"]] if "reasoning_content" in answer else []
            answer["reasoning_content"] = "\n".join([*earlier, *texts])
    elif item.type == "function_call":
        arguments = _required(item.arguments, f"{where}.arguments")
        parsed = call_arguments(arguments, f"{where}.arguments")
        function = {"name": _required(item.name, f"{where}.name"), "arguments": parsed}
        identity = _required(item.call_id, f"{where}.call_id")
        calls = answer.setdefault("tool_calls", [])
        calls.append({"id": identity, "type": "function", "function": function})
    else:
        content = _required(item.content, f"{where}.content")
        text = content_text(content, f"{where}.content")
        answer["content"] = "\n".join(filter(None, [answer["content"], text]))


def _required(value: Any, field: str) -> Any:
    if value is None:
        raise bad_field(field, "missing; this field is required")
    return value


class _Answer:
    """What a stream becomes."""

    def __init__(self, body: ResponsesRequest, stream: ChatStream) -> None:
        self._stream = stream
        self._logprobs = wants_logprobs(body)
        self._tokens = PartTokens()
        self._items = OutputItems()
        self._sent = 0
        self._response = ResponseObject(
            id=f"resp_{secrets.token_hex(12)}",
            created_at=int(time.time()),
            model=stream.model,
            tools=body.tools or [],
            tool_choice=body.tool_choice or "auto",
            parallel_tool_calls=body.parallel_tool_calls is not False,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            temperature=body.temperature,
            top_p=body.top_p,
            text=body.text or TextConfig(format=TextFormat(type="text")),
            reasoning=body.reasoning or ReasoningConfig(),
            metadata=body.metadata or {},
            output=self._items.items,
        )

    async def whole(self) -> ResponseObject:
        """The answer in one piece."""
        async for delta in self._stream:
            for _ in self._grow(delta):
                pass
        for _ in self._finish():
            pass
        return self._response

    async def events(self) -> AsyncIterator[bytes]:
        """The events of a streamed answer."""
        try:
            for kind in ("created", "in_progress"):
                yield self._sse(ResponseEvent(type=f"response.{kind}", response=self._response))
            async for delta in self._stream:
                for event in self._grow(delta):
                    yield self._sse(event)
            for event in self._finish():
                yield self._sse(event)
            last = f"response.{self._response.status}"
            yield self._sse(ResponseEvent(type=last, response=self._response))
        except Exception as error:
            problem = to_api_error(error)
            self._response.status = "failed"
            self._response.error = ResponseError(
                code=problem.code or "server_error", message=problem.message
            )
            yield self._sse(ResponseEvent(type="response.failed", response=self._response))

    def _grow(self, delta: ChatDelta) -> Iterator[ResponseEvent]:
        """What a delta changes; each event shows the items as they are when it is made."""
        tokenizer = self._stream.loaded.model.tokenizer
        self._tokens.add(delta.tokens if self._logprobs else [])
        for part in delta.parts:
            logprobs = logprobs_of(self._tokens.of(part), tokenizer).content
            yield from self._items.add(part, logprobs)

    def _finish(self) -> Iterator[ResponseEvent]:
        complete = self._stream.finish_reason != "length"
        yield from self._items.finish(complete=complete)
        response = self._response
        response.status = "completed" if complete else "incomplete"
        if not complete:
            response.incomplete_details = IncompleteDetails(reason="max_output_tokens")
        statistics = self._stream.statistics
        response.usage = Usage(
            input_tokens=statistics.prompt_tokens,
            output_tokens=statistics.tokens,
            total_tokens=statistics.prompt_tokens + statistics.tokens,
            input_tokens_details=InputDetails(cached_tokens=statistics.cached_tokens),
            output_tokens_details=OutputDetails(),
        )
        response.timings = self._stream.timings

    def _sse(self, event: ResponseEvent) -> bytes:
        event.sequence_number = self._sent
        self._sent += 1
        return sse(event, event.type.encode())


async def create_response(call: Call[ResponsesRequest]) -> Response:
    """Answer a conversation, streamed or in one piece."""
    body = call.body
    with named_as(_NAMES):
        (stream,) = await open_chat(call.server, body.model, chat_request(body))
    answer = _Answer(body, stream)
    if body.stream:
        seconds = call.server.settings.ping_seconds
        return EventStream(answer.events(), stream.close, ping_seconds=seconds)
    async with closed_when_left(call.request, stream.close):
        return json_response(await answer.whole())


FAMILY = Family(
    name="OpenAI responses",
    prefixes=("/v1/responses",),
    setting_names=_NAMES,
    operations=(
        Operation(
            method="POST",
            path="/v1/responses",
            handle=create_response,
            summary="Answer a conversation",
            body=ResponsesRequest,
            answer=ResponseObject,
            event=ResponseEvent,
        ),
    ),
)
