"""The bodies and answers of OpenAI's Responses API, as far as a text model can serve them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nextn.engine.request import MAX_DRAFT
from nextn.server.openai_chat import ReasoningEffort
from nextn.server.openai_messages import ContentPart
from nextn.server.openai_types import TokenLogprob
from nextn.server.writing import Timings


class SummaryPart(msgspec.Struct, kw_only=True):
    """A piece of a summary of reasoning."""

    text: str
    type: Literal["summary_text"] = "summary_text"


class ReasoningText(msgspec.Struct, kw_only=True, tag_field="type", tag="reasoning_text"):
    """A piece of reasoning."""

    text: str = ""


class InputItem(msgspec.Struct, kw_only=True):
    """One item of a conversation; each type has its own fields.

    Attributes:
        content: of a message, or of reasoning.
        output: what a function returned.
        summary: of reasoning; read where there is no content.
    """

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ContentPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[ContentPart] | None = None
    summary: list[SummaryPart] | None = None


class FunctionTool(msgspec.Struct, kw_only=True):
    """A function that the model may call; tools that a server would run are not served."""

    name: str
    type: Literal["function"]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class NamedFunction(msgspec.Struct, kw_only=True):
    """The function that must be called."""

    name: str
    type: Literal["function"]


class TextFormat(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextConfig(msgspec.Struct, kw_only=True):
    """How the answer is to look; verbosity is not known to local models, and ignored."""

    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningConfig(msgspec.Struct, kw_only=True):
    """How much the model thinks; summaries are not made, the reasoning itself is in the answer."""

    effort: ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesRequest(msgspec.Struct, kw_only=True):
    """The body of /v1/responses; fields that are not listed are ignored.

    Answers are not kept, so that a conversation is sent as a whole every time.

    Attributes:
        seed: of the noise; not in OpenAI's own API, like those that follow.
        mtp: "auto", "off", or a number of tokens to draft per step.
        cache_prompt: see `WritingFields`.
    """

    input: str | list[InputItem]
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    stream: bool | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: ReasoningConfig | None = None
    include: list[str] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    metadata: dict[str, str] | None = None
    previous_response_id: None = None
    conversation: None = None
    prompt: None = None
    store: Literal[False] | None = None
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    seed: int | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    mtp: Annotated[int, Meta(ge=0, le=MAX_DRAFT)] | Literal["auto", "off"] | None = None
    cache_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


Status: TypeAlias = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, kw_only=True, tag_field="type", tag="output_text"):
    """The text of a message."""

    text: str = ""
    annotations: list[None] = msgspec.field(default_factory=list)
    logprobs: list[TokenLogprob] = msgspec.field(default_factory=list)


class OutputMessage(msgspec.Struct, kw_only=True, tag_field="type", tag="message"):
    """A message in an answer."""

    id: str
    status: Status = "in_progress"
    content: list[OutputText] = msgspec.field(default_factory=list)
    role: Literal["assistant"] = "assistant"


class OutputReasoning(msgspec.Struct, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thought."""

    id: str
    status: Status = "in_progress"
    content: list[ReasoningText] = msgspec.field(default_factory=list)
    summary: list[SummaryPart] = msgspec.field(default_factory=list)


class OutputCall(msgspec.Struct, kw_only=True, tag_field="type", tag="function_call"):
    """A call that the model made; arguments are a JSON object in a string."""

    id: str
    call_id: str
    name: str
    arguments: str = ""
    status: Status = "in_progress"


OutputItem: TypeAlias = OutputMessage | OutputReasoning | OutputCall


class InputDetails(msgspec.Struct, kw_only=True):
    """Part of `Usage`."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct, kw_only=True):
    """Part of `Usage`; tokens of the reasoning are not counted apart."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, kw_only=True):
    """Tokens that were read and written."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputDetails
    output_tokens_details: OutputDetails


class IncompleteDetails(msgspec.Struct, kw_only=True):
    """Why an answer is not complete."""

    reason: Literal["max_output_tokens"]


class ResponseError(msgspec.Struct, kw_only=True):
    """Why an answer failed."""

    code: str
    message: str


class ResponseObject(msgspec.Struct, kw_only=True):
    """The answer of /v1/responses."""

    id: str
    created_at: int
    model: str
    tools: list[FunctionTool]
    tool_choice: Literal["none", "auto", "required"] | NamedFunction
    parallel_tool_calls: bool
    instructions: str | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    text: TextConfig
    reasoning: ReasoningConfig
    metadata: dict[str, str]
    status: Status = "in_progress"
    output: list[OutputItem] = msgspec.field(default_factory=list)
    usage: Usage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    previous_response_id: None = None
    store: Literal[False] = False
    truncation: Literal["disabled"] = "disabled"
    object: Literal["response"] = "response"
    timings: Timings | UnsetType = UNSET


class ResponseEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event of a streamed answer; each type has its own fields."""

    type: str
    sequence_number: int | UnsetType = UNSET
    response: ResponseObject | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    part: OutputText | ReasoningText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET
