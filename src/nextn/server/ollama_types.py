"""The bodies and answers of Ollama's API, as far as a text model can serve them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nextn.engine.request import MAX_DRAFT
from nextn.server.openai_types import TokenLogprob
from nextn.server.writing import Timings

_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_Penalty = Annotated[float, Meta(ge=-100.0, le=100.0)]
_Depth = Annotated[int, Meta(ge=0, le=MAX_DRAFT)]


class Options(msgspec.Struct, kw_only=True):
    """How a text is written.

    Options that are not listed, such as those for the hardware, are ignored, as Ollama does. The
    size of the context is that of the server.

    Attributes:
        num_predict: most tokens to write; -1 and -2 are as many as the context has room for.
        draft_num_predict: most drafted tokens per step; 0 is none.
        mtp: the same, or "auto" or "off".
    """

    seed: int | None = None
    num_predict: Annotated[int, Meta(ge=-2)] | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    top_p: _Share | None = None
    min_p: _Share | None = None
    typical_p: _Share | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=100.0)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    stop: str | list[str] | None = None
    mirostat: Literal[0] | None = None
    num_ctx: Annotated[int, Meta(ge=1)] | None = None
    draft_num_predict: _Depth | None = None
    mtp: _Depth | Literal["auto", "off"] | None = None


class WritingRequest(msgspec.Struct, kw_only=True):
    """What /api/chat and /api/generate have in common.

    Attributes:
        format: "json", or a JSON schema.
        keep_alive: how long the model stays loaded afterwards: seconds or text such as "10m"; less
            than 0 is for ever, 0 is not at all.
        think: whether the model thinks first, or how much.
    """

    model: str
    stream: bool | None = None
    format: Literal["json", ""] | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: float | str | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=100)] | None = None


class CallFunction(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A tool and the arguments that it is called with."""

    name: str
    arguments: dict[str, Any]
    index: int | UnsetType = UNSET


class Call(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A call that the model made."""

    function: CallFunction
    id: str | UnsetType = UNSET


class Message(msgspec.Struct, kw_only=True):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: Annotated[list[Any], Meta(max_length=0)] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Function(msgspec.Struct, kw_only=True):
    """A function that the model may call; parameters are a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(msgspec.Struct, kw_only=True):
    """A tool that the model may call."""

    function: Function
    type: Literal["function"] | None = None


class ChatBody(WritingRequest, kw_only=True):
    """The body of /api/chat; without messages, the model is loaded or unloaded."""

    messages: list[Message] | None = None
    tools: list[Tool] | None = None


class GenerateBody(WritingRequest, kw_only=True):
    """The body of /api/generate; without a prompt, the model is loaded or unloaded.

    Attributes:
        raw: the prompt is taken as it is, control tokens included, without the chat template.
    """

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    images: Annotated[list[Any], Meta(max_length=0)] | None = None
    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    context: Annotated[list[int], Meta(max_length=0)] | None = None


class AnswerCallFunction(msgspec.Struct, kw_only=True):
    """A tool and the arguments that it is called with, as the model wrote them."""

    name: str
    arguments: msgspec.Raw
    index: int


class AnswerCall(msgspec.Struct, kw_only=True):
    """A call in an answer."""

    id: str
    function: AnswerCallFunction


class AnswerMessage(msgspec.Struct, kw_only=True):
    """The message of an answer, or a piece of it."""

    content: str = ""
    role: Literal["assistant"] = "assistant"
    thinking: str | UnsetType = UNSET
    tool_calls: list[AnswerCall] | UnsetType = UNSET


class Answer(msgspec.Struct, kw_only=True):
    """An answer, or a piece of it; the last one has counts and times, in nanoseconds.

    Attributes:
        message: in /api/chat.
        response: in /api/generate.
        thinking: in /api/generate.
        done_reason: "stop", "length", "load" or "unload".
        timings: the same in llama.cpp's words, with what drafting brought.
    """

    model: str
    created_at: str
    done: bool
    message: AnswerMessage | UnsetType = UNSET
    response: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    done_reason: str | UnsetType = UNSET
    logprobs: list[TokenLogprob] | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    timings: Timings | UnsetType = UNSET


class Details(msgspec.Struct, kw_only=True):
    """What kind of model it is; empty as long as it was not loaded."""

    family: str = ""
    families: list[str] = msgspec.field(default_factory=list)
    parameter_size: str = ""
    quantization_level: str = ""
    format: str = "gguf"
    parent_model: str = ""


class ModelEntry(msgspec.Struct, kw_only=True):
    """A model in a list.

    Attributes:
        digest: of the name, since files are not hashed.
        expires_at: when it is unloaded, if it is loaded and nobody asks for it.
        size_vram: in the memory of a graphics processor.
    """

    name: str
    model: str
    digest: str
    size: int
    details: Details
    modified_at: str | UnsetType = UNSET
    expires_at: str | UnsetType = UNSET
    size_vram: int | UnsetType = UNSET
    context_length: int | UnsetType = UNSET


class ModelList(msgspec.Struct, kw_only=True):
    """The answer of /api/tags and /api/ps."""

    models: list[ModelEntry]


class ShowBody(msgspec.Struct, kw_only=True):
    """The body of /api/show."""

    model: str | None = None
    name: str | None = None


class ModelPage(msgspec.Struct, kw_only=True):
    """The answer of /api/show."""

    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class Version(msgspec.Struct, kw_only=True):
    """The answer of /api/version."""

    version: str
