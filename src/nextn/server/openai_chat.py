"""OpenAI's /v1/chat/completions."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import UNSET, Meta
from starlette.responses import Response

from nextn.server.chat import ChatDelta, ChatRequest, ChatStream, open_chat
from nextn.server.errors import bad_field, openai_shape, to_api_error
from nextn.server.fields import WritingFields
from nextn.server.openai_messages import (
    Message,
    NamedTool,
    Tool,
    template_messages,
    template_tools,
)
from nextn.server.openai_types import (
    DONE,
    FINGERPRINT,
    AnswerMessage,
    Besides,
    ChatChunk,
    ChatCompletion,
    Choice,
    ChunkChoice,
    DeltaMessage,
    FunctionCall,
    Logprobs,
    ToolCall,
    ToolCallChunk,
    Usage,
    logprobs_of,
    nextn_so_far,
    say_besides,
    wants_origins,
    wants_usage,
)
from nextn.server.operation import Call, Family, Operation, json_response
from nextn.server.part_tokens import PartTokens
from nextn.server.streaming import EventStream, closed_when_left, merge, sse
from nextn.text.dialects import CallArguments, CallBegin, Delta, Reasoning, Text

if TYPE_CHECKING:
    from nextn.engine.events import Token

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


def effort_variables(effort: ReasoningEffort | None) -> dict[str, Any]:
    """What an effort is for a chat template: each kind of model has another variable for it."""
    if effort is None:
        return {}
    return {"reasoning_effort": effort, "enable_thinking": effort != "none"}


class ChatCompletionRequest(WritingFields, kw_only=True):
    """The body of /v1/chat/completions; fields that are not listed are ignored.

    Attributes:
        chat_template_kwargs: further variables for the chat template.
        thinking_budget_tokens: most tokens of the reasoning, in llama.cpp's words; -1 for no limit.
    """

    messages: list[Message]
    max_completion_tokens: Annotated[int, Meta(ge=-1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0)] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: ReasoningEffort | None = None
    thinking_budget_tokens: Annotated[int, Meta(ge=-1)] | None = None

    def chat_request(self) -> ChatRequest:
        """What is asked for.

        Raises:
            ApiError: fields that cannot be served.
        """
        if self.top_logprobs is not None and not self.logprobs:
            raise bad_field("top_logprobs", "needs 'logprobs': true")
        limit = self.max_completion_tokens
        if limit == 0:
            raise bad_field("max_completion_tokens", "is 0; allowed: an integer from 1, or -1")
        choice, budget = self.tool_choice, self.thinking_budget_tokens
        template = {**effort_variables(self.reasoning_effort), **(self.chat_template_kwargs or {})}
        return ChatRequest(
            messages=template_messages(self.messages),
            tools=template_tools(self.tools),
            tool_choice=choice.function.name if isinstance(choice, NamedTool) else choice or "auto",
            parallel_tool_calls=self.parallel_tool_calls is not False,
            template=template,
            writing=self.writing(
                logprobs=(self.top_logprobs or 0) if self.logprobs else None,
                max_tokens=limit,
            ),
            reasoning_budget=None if budget == -1 else budget,
        )


class _Answers:
    """What the streams of a request become.

    Args:
        body: the request.
        streams: one per choice.
    """

    def __init__(self, body: ChatCompletionRequest, streams: list[ChatStream]) -> None:
        self._body = body
        self._streams = streams
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._tokenizer = streams[0].loaded.model.tokenizer
        self._origins = wants_origins(body)
        self._usage = wants_usage(body)
        self._tokens = [PartTokens() for _ in streams]

    def close(self) -> None:
        for stream in self._streams:
            stream.close()

    async def events(self) -> AsyncIterator[bytes]:
        """The events of a streamed answer."""
        try:
            for index in range(len(self._streams)):
                yield sse(self._chunk(index, DeltaMessage(role="assistant", content="")))
            async for index, delta in merge([stream.read for stream in self._streams]):
                for chunk in self._chunks(index, delta):
                    yield sse(chunk)
            if self._usage:
                last = self._chunk(0, DeltaMessage())
                last.choices = []
                last.usage = self._all_usage()
                last.timings = self._streams[0].timings if len(self._streams) == 1 else UNSET
                yield sse(last)
            yield DONE
        except Exception as error:
            # Whoever reads slowly must not keep the other texts going.
            self.close()
            yield sse(openai_shape(to_api_error(error)))

    def _chunk(self, index: int, delta: DeltaMessage) -> ChatChunk:
        return ChatChunk(
            id=self._id,
            created=self._created,
            model=self._streams[0].model,
            choices=[ChunkChoice(index=index, delta=delta)],
            system_fingerprint=FINGERPRINT,
            usage=None if self._usage else UNSET,
        )

    def _chunks(self, index: int, delta: ChatDelta) -> list[ChatChunk]:
        chunks = []
        for part, logprobs in self._with_logprobs(index, delta):
            message = _message(part)
            if message is not None:
                chunk = self._chunk(index, message)
                chunk.choices[0].logprobs = logprobs
                chunks.append(chunk)
        stream = self._streams[index]
        if not chunks and self._origins:
            # Their text comes later, but the tokens are known.
            chunks.append(self._chunk(index, DeltaMessage(content="")))
        if chunks and self._origins:
            chunks[0].nextn = nextn_so_far(delta.tokens, stream.statistics)
        if chunks and self._body.timings_per_token:
            chunks[-1].timings = stream.timings
        if stream.ended:
            last = self._chunk(index, DeltaMessage())
            last.choices[0].finish_reason = stream.finish_reason
            last.choices[0].logprobs = self._last_logprobs(index)
            self._say_besides(last, stream)
            chunks.append(last)
        return chunks

    def _with_logprobs(
        self, index: int, delta: ChatDelta
    ) -> Iterator[tuple[Delta, Logprobs | None]]:
        """The parts of a delta, and the log probabilities of the tokens of those that are text."""
        tokens = self._tokens[index]
        tokens.add(delta.tokens if self._body.logprobs else [])
        for part in delta.parts:
            yield part, self._logprobs(tokens.of(part))

    def _last_logprobs(self, index: int) -> Logprobs | None:
        """Those of tokens without text that the answer broke off with."""
        broken_off = self._streams[index].finish_reason == "length"
        return self._logprobs(self._tokens[index].rest() if broken_off else [])

    def _logprobs(self, tokens: list[Token]) -> Logprobs | None:
        return logprobs_of(tokens, self._tokenizer) if tokens else None

    def _say_besides(self, place: Besides, stream: ChatStream) -> None:
        say_besides(place, self._body, stream.statistics, stream.seed)

    def _all_usage(self) -> Usage:
        return Usage.of([stream.statistics for stream in self._streams], len(self._streams))

    async def whole(self) -> ChatCompletion:
        """The answer in one piece."""
        choices = [await self._choice(index) for index in range(len(self._streams))]
        answer = ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._streams[0].model,
            choices=choices,
            usage=self._all_usage(),
            system_fingerprint=FINGERPRINT,
        )
        for choice, stream in zip(choices, self._streams, strict=True):
            # What belongs to one text is where llama.cpp and vLLM have it, if there is one only.
            self._say_besides(answer if len(choices) == 1 else choice, stream)
        return answer

    async def _choice(self, index: int) -> Choice:
        stream = self._streams[index]
        parts: list[Delta] = []
        logprobs = Logprobs(content=[])
        async for delta in stream:
            parts += delta.parts
            for _, of_part in self._with_logprobs(index, delta):
                logprobs.content += of_part.content if of_part is not None else []
        rest = self._last_logprobs(index)
        logprobs.content += rest.content if rest is not None else []
        return Choice(
            index=index,
            message=_whole_message(parts),
            finish_reason=stream.finish_reason,
            logprobs=logprobs if self._body.logprobs else None,
        )


def _message(part: Delta) -> DeltaMessage | None:
    """What a part adds to a message in a stream."""
    match part:
        case Text(text):
            return DeltaMessage(content=text)
        case Reasoning(text):
            return DeltaMessage(reasoning_content=text)
        case CallBegin(index, name):
            call = ToolCallChunk(
                index=index,
                function=FunctionCall(name=name),
                id=call_id(),
                type="function",
            )
            return DeltaMessage(tool_calls=[call])
        case CallArguments(index, text):
            call = ToolCallChunk(index=index, function=FunctionCall(arguments=text))
            return DeltaMessage(tool_calls=[call])
    return None


def _whole_message(parts: list[Delta]) -> AnswerMessage:
    text = "".join(part.text for part in parts if isinstance(part, Text))
    reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
    calls: dict[int, ToolCall] = {}
    for part in parts:
        if isinstance(part, CallBegin):
            calls[part.index] = ToolCall(id=call_id(), function=FunctionCall(name=part.name))
        elif isinstance(part, CallArguments):
            calls[part.index].function.arguments += part.text
    return AnswerMessage(
        content=text if text or not calls else None,
        reasoning_content=reasoning or UNSET,
        tool_calls=list(calls.values()) or UNSET,
    )


def call_id() -> str:
    """A new id of a tool call."""
    return f"call_{secrets.token_hex(12)}"


async def complete_chat(call: Call[ChatCompletionRequest]) -> Response:
    """Answer a conversation, streamed or in one piece."""
    body = call.body
    streams = await open_chat(call.server, body.model, body.chat_request())
    answers = _Answers(body, streams)
    if body.stream:
        ping = call.server.settings.ping_seconds
        return EventStream(answers.events(), answers.close, ping_seconds=ping)
    async with closed_when_left(call.request, answers.close):
        return json_response(await answers.whole())


FAMILY = Family(
    name="OpenAI chat",
    prefixes=("/v1/chat/",),
    setting_names={"draft": "mtp", "prompt": "messages"},
    operations=(
        Operation(
            method="POST",
            path="/v1/chat/completions",
            handle=complete_chat,
            summary="Answer a conversation",
            body=ChatCompletionRequest,
            answer=ChatCompletion,
            event=ChatChunk,
        ),
    ),
)
