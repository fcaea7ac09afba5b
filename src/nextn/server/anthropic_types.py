"""The bodies and answers of Anthropic's Messages API, as far as a text model can serve them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nextn.engine.request import MAX_DRAFT
from nextn.server.writing import Timings


class TextBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="text"):
    """Text."""

    text: str


class ThinkingBlock(msgspec.Struct, kw_only=True, tag_field="type", tag="thinking"):
    """What the model thought."""

    thinking: str
    signature: str = ""


class RedactedThinking(msgspec.Struct, kw_only=True, tag_field="type", tag="redacted_thinking"):
    """What another model thought, in a form that only its maker can read; it is left out."""

    data: str


class ToolUse(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_use"):
    """A call that the model made."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResult(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_result"):
    """What a tool returned."""

    tool_use_id: str
    content: str | list[TextBlock] | None = None
    is_error: bool | None = None


Block: TypeAlias = TextBlock | ThinkingBlock | RedactedThinking | ToolUse | ToolResult


class Message(msgspec.Struct, kw_only=True):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(msgspec.Struct, kw_only=True):
    """A tool that the model may call; tools that a server would run are not served."""

    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: Literal["custom"] | None = None


class ChooseAuto(msgspec.Struct, kw_only=True, tag_field="type", tag="auto"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class ChooseAny(msgspec.Struct, kw_only=True, tag_field="type", tag="any"):
    """Some tool must be called."""

    disable_parallel_tool_use: bool | None = None


class ChooseTool(msgspec.Struct, kw_only=True, tag_field="type", tag="tool"):
    """One tool must be called."""

    name: str
    disable_parallel_tool_use: bool | None = None


class ChooseNone(msgspec.Struct, kw_only=True, tag_field="type", tag="none"):
    """No tool may be called."""


class ThinkingEnabled(msgspec.Struct, kw_only=True, tag_field="type", tag="enabled"):
    """The model thinks, if it can; after so many tokens it is made to answer."""

    budget_tokens: Annotated[int, Meta(ge=1)]


class ThinkingAdaptive(msgspec.Struct, kw_only=True, tag_field="type", tag="adaptive"):
    """The model decides how much it thinks."""


class ThinkingDisabled(msgspec.Struct, kw_only=True, tag_field="type", tag="disabled"):
    """The model does not think, if its template can say so."""


class JsonFormat(msgspec.Struct, kw_only=True):
    """A JSON schema for the answer."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, kw_only=True):
    """The form of the answer, and how much effort it is worth."""

    format: JsonFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class CountTokensRequest(msgspec.Struct, kw_only=True):
    """The body of /v1/messages/count_tokens; fields that are not listed are ignored."""

    model: str
    messages: list[Message]
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ChooseAuto | ChooseAny | ChooseTool | ChooseNone | None = None
    thinking: ThinkingEnabled | ThinkingAdaptive | ThinkingDisabled | None = None
    output_config: OutputConfig | None = None


class MessagesRequest(CountTokensRequest, kw_only=True):
    """The body of /v1/messages; fields that are not listed are ignored.

    Attributes:
        max_tokens: most tokens to write.
        seed: of the noise; not in Anthropic's own API, like those that follow.
        mtp: "auto", "off", or a number of tokens to draft per step.
    """

    max_tokens: Annotated[int, Meta(ge=1)]
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    seed: int | None = None
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    mtp: Annotated[int, Meta(ge=0, le=MAX_DRAFT)] | Literal["auto", "off"] | None = None
    container: None = None
    mcp_servers: Annotated[list[Any], Meta(max_length=0)] | None = None


class AnswerToolUse(msgspec.Struct, kw_only=True, tag_field="type", tag="tool_use"):
    """A call in an answer; its input is JSON as the model wrote it."""

    id: str
    name: str
    input: msgspec.Raw


AnswerBlock: TypeAlias = TextBlock | ThinkingBlock | AnswerToolUse
StopReason: TypeAlias = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class Usage(msgspec.Struct, kw_only=True):
    """Tokens that were read and written; those from the cache are not among `input_tokens`."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class Answer(msgspec.Struct, kw_only=True):
    """The answer of /v1/messages."""

    id: str
    model: str
    content: list[AnswerBlock]
    usage: Usage
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    type: Literal["message"] = "message"
    timings: Timings | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"


class Delta(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is added to a block, or to the message at its end; each kind has its own field."""

    type: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    partial_json: str | UnsetType = UNSET
    stop_reason: StopReason | UnsetType = UNSET
    stop_sequence: str | UnsetType | None = UNSET


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of a streamed answer; each type has its own fields."""

    type: str
    message: Answer | UnsetType = UNSET
    index: int | UnsetType = UNSET
    content_block: AnswerBlock | UnsetType = UNSET
    delta: Delta | UnsetType = UNSET
    usage: Usage | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET


class TokenCount(msgspec.Struct, kw_only=True):
    """The answer of /v1/messages/count_tokens."""

    input_tokens: int
