"""What all chat APIs share: from a conversation to a stream of deltas.

An API family builds a `ChatRequest` of its body and calls `open_chat`. For each choice it then
reads a `ChatStream`: deltas, each of which has what became certain since the last one, usually in
one step of the engine. Closing the stream, or leaving its `async with` block, cancels the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nextn.errors import TemplateError, UnsupportedModelError
from nextn.server.errors import ApiError, bad_field
from nextn.server.parts import (
    CallArguments,
    CallBegin,
    CallEnd,
    Parser,
    Part,
    PlainParser,
    Reasoning,
    Text,
)
from nextn.server.writing import Timings, Writing, open_choices

if TYPE_CHECKING:
    from nextn.engine.async_engine import AsyncTokenStream
    from nextn.engine.events import Token
    from nextn.engine.request import GenerationRequest
    from nextn.engine.statistics import Statistics
    from nextn.model import Model
    from nextn.server.models import Lease, LoadedModel
    from nextn.server.state import Server

__all__ = [
    "CallArguments",
    "CallBegin",
    "CallEnd",
    "ChatDelta",
    "ChatFinish",
    "ChatRequest",
    "ChatStream",
    "Part",
    "Reasoning",
    "Text",
    "open_chat",
]

ChatFinish: TypeAlias = Literal["stop", "length", "tool_calls"]

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "chat_template"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation to be answered.

    Attributes:
        messages: as chat templates take them: "role", "content" (text), and for tools "tool_calls",
            "tool_call_id" and "name". Arguments of calls are objects where they are JSON objects.
        tools: such as `{"type": "function", "function": {"name", "description", "parameters"}}`.
        tool_choice: "auto", "none", "required", or the name of the tool that must be called.
        parallel_tool_calls: whether there may be several calls in an answer.
        template: further variables of the chat template, such as `enable_thinking`.
        writing: how the answer is written.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    template: Mapping[str, Any] = field(default_factory=dict)
    writing: Writing = field(default_factory=Writing)


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """What became certain since the last delta.

    Attributes:
        parts: text, reasoning and tool calls; may be none.
        tokens: the tokens since the last delta, one or more unless it is the last. What is certain
            of their text is in the parts of this delta or of a later one.
    """

    parts: list[Part]
    tokens: list[Token]


class ChatStream:
    """One answer as it is written. Made by `open_chat`; read it to its end, or close it.

    Attributes:
        model: the name of the model.
    """

    def __init__(self, lease: Lease, stream: AsyncTokenStream, parser: Parser) -> None:
        self.model = lease.loaded.name
        self._lease = lease
        self._stream = stream
        self._parser = parser
        self._called = False
        self._reason: str | None = None

    @property
    def loaded(self) -> LoadedModel:
        """The model that writes."""
        return self._lease.loaded

    @property
    def prompt(self) -> list[int]:
        """The token ids of the prompt."""
        return self._stream.prompt

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return self._stream.seed

    @property
    def statistics(self) -> Statistics:
        """Counts and times; final after the last delta."""
        return self._stream.statistics

    @property
    def timings(self) -> Timings:
        """The same in llama.cpp's words."""
        return Timings.of(self._stream.statistics)

    @property
    def finish_reason(self) -> ChatFinish:
        """Why the answer ended; valid after the last delta."""
        if self._called:
            return "tool_calls"
        return "stop" if self._reason == "stop" else "length"

    async def read(self) -> ChatDelta | None:
        """The next delta, or None after the last; may be cancelled and called again.

        Raises:
            NextnError: see `AsyncTokenStream.read`.
        """
        tokens = await self._stream.read()
        if not tokens:
            self.close()
            return None
        parts = self._parser.push("".join([token.text for token in tokens]))
        if tokens[-1].finish_reason is not None:
            self._reason = tokens[-1].finish_reason
            parts += self._parser.finish()
        if not self._called:
            self._called = any(isinstance(part, CallBegin) for part in parts)
        return ChatDelta(parts, tokens)

    def close(self) -> None:
        """Cancel the answer if it is not finished, and let go of the model."""
        self._stream.close()
        self._lease.release()

    async def __aiter__(self) -> AsyncIterator[ChatDelta]:
        while (delta := await self.read()) is not None:
            yield delta

    async def __aenter__(self) -> ChatStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def open_chat(server: Server, model: str | None, request: ChatRequest) -> list[ChatStream]:
    """Begin to answer a conversation; one stream for each choice.

    Args:
        server: whose models answer.
        model: the name of one; None for the first.
        request: what to answer.

    Raises:
        ApiError, NextnError: the request is not possible; nothing was begun.
    """
    _check(request)
    with await server.models.acquire(model) as lease:
        loaded = lease.loaded.model

        def prepare() -> list[GenerationRequest]:
            prompt = chat_prompt(loaded, request)
            return request.writing.requests(loaded, prompt, server.settings)

        # Long conversations and schemas take their time; the loop serves others meanwhile.
        streams = open_choices(lease, await asyncio.to_thread(prepare))
        return [ChatStream(lease.share(), stream, PlainParser()) for stream in streams]


def chat_prompt(model: Model, request: ChatRequest) -> list[int]:
    """The token ids that a conversation becomes.

    Raises:
        ApiError: the template refuses the conversation, or there is none.
    """
    variables = dict(request.template)
    if request.tools and request.tool_choice != "none":
        variables["tools"] = list(request.tools)
    try:
        return model.chat_prompt(request.messages, template=variables)
    except (TemplateError, UnsupportedModelError) as error:
        raise ApiError(400, str(error), field="messages") from error


def _check(request: ChatRequest) -> None:
    reserved = _RESERVED.intersection(request.template)
    if reserved:
        name = min(reserved)
        raise bad_field(f"chat_template_kwargs.{name}", "cannot be set by a request")
    if not request.messages:
        raise bad_field("messages", "is empty; give at least one message")
    if request.tool_choice not in ("auto", "none"):
        raise bad_field("tool_choice", "only 'auto' and 'none' are supported yet")
