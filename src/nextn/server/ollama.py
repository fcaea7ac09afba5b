"""Ollama's /api/chat and /api/generate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from nextn.server import ollama_models
from nextn.server.chat import ChatDelta, ChatStream, open_chat
from nextn.server.errors import bad_field, named_as, to_api_error
from nextn.server.ollama_models import ollama_shape, plain_name, timestamp
from nextn.server.ollama_requests import (
    NAMES,
    chat_request,
    generate_request,
    keep_alive_seconds,
    writing_of,
)
from nextn.server.ollama_types import (
    Answer,
    AnswerCall,
    AnswerCallFunction,
    AnswerMessage,
    ChatBody,
    GenerateBody,
    WritingRequest,
)
from nextn.server.openai_chat import call_id
from nextn.server.openai_types import TokenLogprob, logprobs_of
from nextn.server.operation import Call, Family, Operation, json_response
from nextn.server.streaming import EventStream, closed_when_left
from nextn.server.whole_calls import CallCollector
from nextn.server.writing import open_texts
from nextn.text.dialects import Reasoning, Text
from nextn.text.dialects.find import HERMES

if TYPE_CHECKING:
    from nextn.engine.request import GenerationRequest
    from nextn.model import Model

_NDJSON = "application/x-ndjson"


async def _open_raw(call: Call[GenerateBody], name: str, prompt: str) -> ChatStream:
    """Continue a prompt as it is."""
    body = call.body
    for field, value in (("system", body.system), ("think", body.think)):
        if value:
            raise bad_field(field, "is for the chat template, which 'raw' leaves out")
    writing = writing_of(body)
    with await call.server.models.acquire(name) as lease:
        model = lease.loaded.model

        def prepare() -> list[GenerationRequest]:
            tokens = model.tokenizer.encode(prompt, parse_special=True)
            return writing.requests(model, tokens, call.server.settings)

        requests = await asyncio.to_thread(prepare)
        (text,) = open_texts(call.server, lease, requests)
    # A dialect without reasoning and tools: all is text.
    return ChatStream(text, requests[0], HERMES.parser(), one_call=False)


class _Answers:
    """What a stream becomes.

    Args:
        body: the request.
        stream: of the text.
        load_seconds: how long the request waited for the model.
    """

    def __init__(
        self, body: ChatBody | GenerateBody, stream: ChatStream, load_seconds: float
    ) -> None:
        self._body = body
        self._stream = stream
        self._load_seconds = load_seconds
        self._calls = CallCollector()

    async def lines(self) -> AsyncIterator[bytes]:
        """The lines of a streamed answer."""
        try:
            async for delta in self._stream:
                answer = self._piece(delta)
                if answer is not None:
                    yield _line(answer)
            yield _line(self._last(AnswerMessage()))
        except Exception as error:
            yield _line(ollama_shape(to_api_error(error, NAMES)))

    async def whole(self) -> Answer:
        """The answer in one piece."""
        message = AnswerMessage()
        logprobs: list[TokenLogprob] = []
        async for delta in self._stream:
            self._add(message, delta)
            logprobs += self._logprobs(delta)
        answer = self._last(message)
        if self._body.logprobs:
            answer.logprobs = logprobs
        return answer

    def _piece(self, delta: ChatDelta) -> Answer | None:
        message = AnswerMessage()
        self._add(message, delta)
        if message == AnswerMessage() and not self._body.logprobs:
            return None
        answer = self._answer(message, done=False)
        if self._body.logprobs:
            answer.logprobs = self._logprobs(delta)
        return answer

    def _add(self, message: AnswerMessage, delta: ChatDelta) -> None:
        """Add what became certain to a message."""
        for part in delta.parts:
            match part:
                case Text(text):
                    message.content += text
                case Reasoning(text):
                    message.thinking = (message.thinking or "") + text
                case _:
                    call = self._calls.take(part)
                    if isinstance(call, str):
                        message.content += call
                    elif call is not None:
                        function = AnswerCallFunction(
                            name=call.name,
                            arguments=msgspec.Raw(call.arguments.encode()),
                            index=call.index,
                        )
                        made = AnswerCall(id=call_id(), function=function)
                        message.tool_calls = [*(message.tool_calls or ()), made]

    def _logprobs(self, delta: ChatDelta) -> list[TokenLogprob]:
        if not self._body.logprobs:
            return []
        return logprobs_of(delta.tokens, self._stream.loaded.model.tokenizer).content

    def _answer(self, message: AnswerMessage, *, done: bool) -> Answer:
        answer = _answer(self._stream.model, done=done)
        if isinstance(self._body, ChatBody):
            answer.message = message
        else:
            answer.response = message.content
            answer.thinking = message.thinking
        return answer

    def _last(self, message: AnswerMessage) -> Answer:
        answer = self._answer(message, done=True)
        statistics = self._stream.statistics
        answer.done_reason = "length" if self._stream.finish_reason == "length" else "stop"
        answer.total_duration = _nanoseconds(self._load_seconds + statistics.seconds)
        answer.load_duration = _nanoseconds(self._load_seconds)
        answer.prompt_eval_count = statistics.prompt_tokens
        answer.prompt_eval_duration = _nanoseconds(statistics.prompt_seconds)
        answer.eval_count = statistics.tokens
        answer.eval_duration = _nanoseconds(statistics.writing_seconds)
        answer.timings = self._stream.timings
        return answer


def _answer(model: str, *, done: bool) -> Answer:
    return Answer(model=model, created_at=timestamp(time.time()), done=done)


def _line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


async def _write(call: Call[Any], body: ChatBody | GenerateBody) -> Response:
    """Answer a request for a text, streamed or in one piece."""
    name = plain_name(call.server, body.model)
    keep = None if body.keep_alive is None else (keep_alive_seconds(body.keep_alive),)
    started = time.perf_counter()
    with await call.server.models.acquire(name) as lease:
        load_seconds = time.perf_counter() - started
        if keep is not None:
            lease.keep_alive(keep[0])
        _check_think(body, lease.loaded.model)
        streams = await _open(call, body, name)
        if not streams:
            return _loaded(body, lease.loaded.name, unloads=keep == (0.0,))
    answers = _Answers(body, streams[0], load_seconds)
    if body.stream is not False:
        close = streams[0].close
        return EventStream(answers.lines(), close, ping=b"", media_type=_NDJSON)
    async with closed_when_left(call.request, streams[0].close):
        return json_response(await answers.whole())


async def _open(call: Call[Any], body: ChatBody | GenerateBody, name: str) -> list[ChatStream]:
    """The stream of the text; none if nothing is to be written."""
    if isinstance(body, ChatBody):
        if not body.messages:
            return []
        return await open_chat(call.server, name, chat_request(body, body.messages))
    if not body.prompt:
        return []
    if body.raw:
        return [await _open_raw(call, name, body.prompt)]
    return await open_chat(call.server, name, generate_request(body, body.prompt))


def _check_think(body: WritingRequest, model: Model) -> None:
    if body.think and "thinking" not in ollama_models.capabilities(model):
        raise bad_field("think", "the model does not think; leave it out, or give false")


def _loaded(body: ChatBody | GenerateBody, name: str, *, unloads: bool) -> Response:
    """The answer to a request that has nothing to be written: the model is loaded or unloaded."""
    answer = _answer(name, done=True)
    answer.done_reason = "unload" if unloads else "load"
    if isinstance(body, ChatBody):
        answer.message = AnswerMessage()
    else:
        answer.response = ""
    return json_response(answer)


async def chat(call: Call[ChatBody]) -> Response:
    """Answer a conversation."""
    with named_as({**NAMES, "prompt": "messages"}):
        return await _write(call, call.body)


async def generate(call: Call[GenerateBody]) -> Response:
    """Answer or continue a prompt."""
    with named_as({**NAMES, "messages": "prompt"}):
        return await _write(call, call.body)


FAMILY = Family(
    name="Ollama",
    prefixes=("/api/",),
    error_shape=ollama_shape,
    setting_names=NAMES,
    operations=(
        Operation(
            method="POST",
            path="/api/chat",
            handle=chat,
            summary="Answer a conversation",
            body=ChatBody,
            answer=Answer,
            event=Answer,
            event_type=_NDJSON,
        ),
        Operation(
            method="POST",
            path="/api/generate",
            handle=generate,
            summary="Answer or continue a prompt",
            body=GenerateBody,
            answer=Answer,
            event=Answer,
            event_type=_NDJSON,
        ),
        *ollama_models.OPERATIONS,
    ),
)
