"""What all chat APIs share: from a conversation to a stream of deltas.

An API family builds a `ChatRequest` of its body and calls `open_chat`. For each choice it then
reads a `ChatStream`: deltas, each of which has what became certain since the last one, usually in
one step of the engine. Closing the stream, or leaving its `async with` block, cancels the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nextn.errors import TemplateError, UnsupportedModelError
from nextn.server.chat_form import chat_constraint
from nextn.server.errors import ApiError, bad_field
from nextn.server.writing import ServedText, Timings, Writing, open_texts
from nextn.text.dialects import CallBegin, Delta, Parser, Tool
from nextn.text.dialects.tools import MAX_NAME, is_name
from nextn.text.stream import StreamDetokenizer

if TYPE_CHECKING:
    from nextn.engine.events import Token
    from nextn.engine.request import GenerationRequest
    from nextn.engine.statistics import Statistics
    from nextn.model import Model
    from nextn.server.models import LoadedModel
    from nextn.server.state import Server

ChatFinish: TypeAlias = Literal["stop", "length", "tool_calls"]

_RESERVED = frozenset(
    {
        "messages",
        "tools",
        "documents",
        "add_generation_prompt",
        "chat_template",
        "bos_token",
        "eos_token",
    }
)
"""Variables of templates that would change what they are, or have fields of their own."""


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
        reasoning_budget: most tokens of the reasoning, which is then brought to its end; None for
            no limit. A model that does not think has none.
    """

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str = "auto"
    parallel_tool_calls: bool = True
    template: Mapping[str, Any] = field(default_factory=dict)
    writing: Writing = field(default_factory=Writing)
    reasoning_budget: int | None = None


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """What became certain since the last delta.

    Attributes:
        parts: text, reasoning and tool calls, and marks without a meaning; may be none.
        tokens: the tokens since the last delta, one or more unless it is the last. What is certain
            of their text is in the parts of this delta or of a later one.
    """

    parts: list[Delta]
    tokens: list[Token]


class ChatStream:
    """One answer as it is written. Made by `open_chat`; read it to its end, or close it.

    Attributes:
        model: the name of the model.
    """

    def __init__(
        self, text: ServedText, request: GenerationRequest, parser: Parser, *, one_call: bool
    ) -> None:
        self.model = text.loaded.name
        self._request = request
        self._text = text
        self._parser = parser
        self._one_call = one_call
        self._calls = 0
        self._reason: str | None = None
        self._tokens: list[int] = []
        self._length = 0

    @property
    def loaded(self) -> LoadedModel:
        """The model that writes."""
        return self._text.loaded

    @property
    def prompt(self) -> list[int]:
        """The token ids of the prompt."""
        return self._text.stream.prompt

    @property
    def seed(self) -> int:
        """The seed of the noise."""
        return self._text.stream.seed

    @property
    def statistics(self) -> Statistics:
        """Counts and times; final after the last delta."""
        return self._text.statistics

    @property
    def timings(self) -> Timings:
        """The same in llama.cpp's words."""
        return Timings.of(self._text.statistics)

    @property
    def ended(self) -> bool:
        """Whether the last delta was read."""
        return self._reason is not None

    @property
    def finish_reason(self) -> ChatFinish:
        """Why the answer ended; valid after the last delta."""
        if self._reason != "stop":
            return "length"
        return "tool_calls" if self._calls else "stop"

    @property
    def stop_sequence(self) -> str | None:
        """The stop string that ended the answer; None if none did. Valid after the last delta."""
        request = self._request
        if self._reason != "stop" or not request.stop:
            return None
        detokenizer = StreamDetokenizer(
            self.loaded.model.tokenizer,
            skip_special=True,
            continues=True,
            shown=request.shown_control,
        )
        ids = [token for token in self._tokens if token not in request.end_tokens]
        whole = "".join([*map(detokenizer.push, ids), detokenizer.finish()])
        found = [stop for stop in request.stop if whole.startswith(stop, self._length)]
        return min(found, key=len, default=None)

    async def read(self) -> ChatDelta | None:
        """The next delta, or None after the last; may be cancelled and called again.

        Raises:
            NextnError: see `AsyncTokenStream.read`.
        """
        if self._reason is not None:
            return None
        tokens = await self._text.read()
        if tokens is None:
            return None
        text = "".join([token.text for token in tokens])
        self._tokens += [token.id for token in tokens]
        self._length += len(text)
        parts = self._parser.push(text)
        if tokens[-1].finish_reason is not None:
            self._reason = tokens[-1].finish_reason
            parts += self._parser.finish()
        for place, part in enumerate(parts):
            if isinstance(part, CallBegin):
                if self._calls and self._one_call:
                    # The second call that was not asked for, and all after it.
                    self._reason = "stop"
                    self.close()
                    return ChatDelta(parts[:place], tokens)
                self._calls += 1
        return ChatDelta(parts, tokens)

    def close(self) -> None:
        """Cancel the answer if it is not finished, and let go of the model."""
        self._text.close()

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
    tools = _tools(request)
    with await server.models.acquire(model) as lease:
        loaded = lease.loaded.model

        def prepare() -> tuple[list[GenerationRequest], str]:
            prompt = chat_prompt(loaded, request)
            encoder = loaded.chat_encoder
            opening = encoder.opening(prompt)
            opened = encoder.dialect.opened_by(opening)
            constraint = chat_constraint(loaded, request, tools, opened=opened)
            requests = replace(request.writing, form={}).requests(
                loaded, prompt, server.settings, shown_control=encoder.marks(tools=bool(tools))
            )
            return [replace(each, constraint=constraint) for each in requests], opening

        # Long conversations and schemas take their time; the loop serves others meanwhile.
        requests, opening = await asyncio.to_thread(prepare)
        dialect = loaded.chat_encoder.dialect
        return [
            ChatStream(
                text,
                each,
                dialect.parser(tools, opening=opening),
                one_call=not request.parallel_tool_calls,
            )
            for text, each in zip(open_texts(server, lease, requests), requests, strict=True)
        ]


def chat_prompt(model: Model, request: ChatRequest) -> list[int]:
    """The token ids that a conversation becomes.

    Raises:
        ApiError: the request is wrong, the template refuses the conversation, or there is none.
    """
    variables = dict(request.template)
    if _tools(request):
        variables["tools"] = list(request.tools)
    try:
        return model.chat_prompt(request.messages, template=variables)
    except (TemplateError, UnsupportedModelError) as error:
        raise ApiError(400, str(error), field="messages") from error


def _tools(request: ChatRequest) -> list[Tool]:
    """The tools that may be called: none if none is wanted, one if it must be that one.

    Raises:
        ApiError: the request is wrong.
    """
    reserved = _RESERVED.intersection(request.template)
    if reserved:
        name = min(reserved)
        raise bad_field(f"chat_template_kwargs.{name}", "cannot be set by a request")
    if not request.messages:
        raise bad_field("messages", "is empty; give at least one message")
    tools: dict[str, Tool] = {}
    for place, each in enumerate(request.tools):
        function = each["function"]
        name = function["name"]
        if not is_name(name):
            raise bad_field(
                f"tools[{place}].function.name",
                f"{name[:80]!r} is no name; allowed: 1 to {MAX_NAME} letters, digits and '_.:/-'",
            )
        if name in tools:
            raise bad_field(f"tools[{place}].function.name", f"{name!r} is there twice")
        tools[name] = Tool(
            name, function.get("description") or "", function.get("parameters") or {}
        )
    choice = request.tool_choice
    if choice == "none":
        return []
    if choice == "required" and not tools:
        raise bad_field("tool_choice", "'required' needs tools")
    if choice in ("auto", "required"):
        return list(tools.values())
    if choice not in tools:
        raise bad_field("tool_choice", f"there is no tool {choice[:80]!r}")
    return [tools[choice]]
