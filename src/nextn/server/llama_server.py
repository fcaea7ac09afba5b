"""What programs made for llama-server ask besides: /props, /slots, /tokenize and so on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from nextn.errors import UnsupportedModelError
from nextn.server.chat import ChatRequest, chat_prompt
from nextn.server.errors import bad_field
from nextn.server.openai_messages import Message, Tool, template_messages, template_tools
from nextn.server.operation import Call, Family, Operation, json_response

if TYPE_CHECKING:
    from nextn.engine import Engine
    from nextn.model import Model

MAX_TOKENIZED = 1 << 20
"""Most tokens of /detokenize."""


class GenerationDefaults(msgspec.Struct, kw_only=True):
    """Settings of requests that do not say."""

    n_ctx: int
    params: dict[str, Any]


class Props(msgspec.Struct, kw_only=True):
    """The answer of /props."""

    default_generation_settings: GenerationDefaults
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    bos_token: str
    eos_token: str
    build_info: str
    modalities: dict[str, bool]


class SlotState(msgspec.Struct, kw_only=True):
    """One text that is being written.

    Attributes:
        n_prompt_tokens: length of its prompt.
        n_prompt_tokens_cache: tokens of it that were found in the cache.
        n_prompt_tokens_processed: tokens of the text that were computed or found so far.
        n_decoded: tokens written.
    """

    id: int
    id_task: int
    n_ctx: int
    is_processing: bool
    speculative: bool
    n_prompt_tokens: int = 0
    n_prompt_tokens_cache: int = 0
    n_prompt_tokens_processed: int = 0
    n_decoded: int = 0


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """The body of /tokenize.

    Attributes:
        add_special: put the begin and end tokens around the text, if the model asks for them.
        parse_special: read the texts of control tokens as these tokens.
        with_pieces: say the text of each token.
    """

    content: str
    model: str | None = None
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class TokenPiece(msgspec.Struct, kw_only=True):
    """A token and its text; bytes where it is no text of its own."""

    id: int
    piece: str | list[int]


class TokenizeAnswer(msgspec.Struct, kw_only=True):
    """The answer of /tokenize."""

    tokens: list[int | TokenPiece]


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """The body of /detokenize."""

    tokens: list[int]
    model: str | None = None


class DetokenizeAnswer(msgspec.Struct, kw_only=True):
    """The answer of /detokenize."""

    content: str


class ApplyTemplateRequest(msgspec.Struct, kw_only=True):
    """The body of /apply-template."""

    messages: list[Message]
    model: str | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class ApplyTemplateAnswer(msgspec.Struct, kw_only=True):
    """The answer of /apply-template."""

    prompt: str


async def show_props(call: Call[None]) -> Response:
    """What the first model, or the one named by ?model=, was loaded with."""
    name = call.request.query_params.get("model")
    with await call.server.models.acquire(name) as lease:
        model = lease.loaded.model
        try:
            template = model.chat_template.source
        except UnsupportedModelError:
            template = ""
        data = model.checkpoint.tokenizer
        defaults = {k: v for k, v in call.server.settings.defaults.items() if k != "logit_bias"}
        return json_response(
            Props(
                default_generation_settings=GenerationDefaults(
                    n_ctx=model.context_length, params=defaults
                ),
                total_slots=model.engine.max_sequences,
                model_alias=lease.loaded.name,
                model_path=model.checkpoint.path.name,
                chat_template=template,
                bos_token=_token_text(model, data.bos_id),
                eos_token=_token_text(model, data.eos_id),
                build_info=f"nextn {_version()}",
                modalities={"vision": False, "audio": False},
            )
        )


def _token_text(model: Model, token: int | None) -> str:
    return "" if token is None else model.tokenizer.token_text(token)


def _version() -> str:
    import nextn

    return nextn.__version__


async def show_slots(call: Call[None]) -> Response:
    """The texts that are being written, and the free slots."""
    spec = call.server.models.find(call.request.query_params.get("model"))
    # Whoever only looks must not keep a model from being unloaded, or load it.
    loaded = call.server.models.loaded.get(spec.name)
    return json_response([] if loaded is None else await loaded.engine.call(_slots))


def _slots(engine: Engine) -> list[SlotState]:
    slots = []
    for index, sequence in enumerate(engine.sequences):
        statistics = sequence.statistics
        slots.append(
            SlotState(
                id=index,
                id_task=sequence.id,
                n_ctx=engine.context_length,
                is_processing=True,
                speculative=sequence.request.draft != "off",
                n_prompt_tokens=statistics.prompt_tokens,
                n_prompt_tokens_cache=statistics.cached_tokens,
                n_prompt_tokens_processed=0 if sequence.blocks is None else sequence.blocks.length,
                n_decoded=statistics.tokens,
            )
        )
    for index in range(len(slots), engine.max_sequences):
        slots.append(
            SlotState(
                id=index,
                id_task=-1,
                n_ctx=engine.context_length,
                is_processing=False,
                speculative=False,
            )
        )
    return slots


async def tokenize(call: Call[TokenizeRequest]) -> Response:
    """The token ids of a text."""
    body = call.body
    with await call.server.models.acquire(body.model) as lease:
        tokenizer = lease.loaded.model.tokenizer
        ids = await asyncio.to_thread(
            tokenizer.encode,
            body.content,
            add_special=body.add_special,
            parse_special=body.parse_special,
        )
        return json_response(
            TokenizeAnswer(
                tokens=[
                    TokenPiece(id=token, piece=_piece(tokenizer.token_bytes(token)))
                    if body.with_pieces
                    else token
                    for token in ids
                ]
            )
        )


def _piece(spelling: bytes) -> str | list[int]:
    try:
        return spelling.decode()
    except UnicodeDecodeError:
        return list(spelling)


async def detokenize(call: Call[DetokenizeRequest]) -> Response:
    """The text of token ids."""
    tokens = call.body.tokens
    if len(tokens) > MAX_TOKENIZED:
        raise bad_field("tokens", f"{len(tokens)} are too many; at most {MAX_TOKENIZED}")
    with await call.server.models.acquire(call.body.model) as lease:
        tokenizer = lease.loaded.model.tokenizer
        for token in tokens:
            if not 0 <= token < tokenizer.vocab_size:
                raise bad_field(
                    "tokens", f"{token} is no token id; allowed: 0 to {tokenizer.vocab_size - 1}"
                )
        text = await asyncio.to_thread(tokenizer.decode, tokens, continues=True)
        return json_response(DetokenizeAnswer(content=text))


async def apply_template(call: Call[ApplyTemplateRequest]) -> Response:
    """The prompt that a conversation becomes, as text."""
    body = call.body
    request = ChatRequest(
        messages=template_messages(body.messages),
        tools=template_tools(body.tools),
        template=body.chat_template_kwargs or {},
    )
    with await call.server.models.acquire(body.model) as lease:
        model = lease.loaded.model
        tokens = await asyncio.to_thread(chat_prompt, model, request)
        return json_response(ApplyTemplateAnswer(prompt=model.tokenizer.decode(tokens)))


FAMILY = Family(
    name="llama-server",
    operations=(
        Operation(
            method="GET",
            path="/props",
            handle=show_props,
            summary="Say what a model was loaded with",
            answer=Props,
        ),
        Operation(
            method="GET",
            path="/slots",
            handle=show_slots,
            summary="Say which texts are being written",
            answer=list[SlotState],
        ),
        Operation(
            method="POST",
            path="/tokenize",
            handle=tokenize,
            summary="Make token ids of a text",
            body=TokenizeRequest,
            answer=TokenizeAnswer,
        ),
        Operation(
            method="POST",
            path="/detokenize",
            handle=detokenize,
            summary="Make a text of token ids",
            body=DetokenizeRequest,
            answer=DetokenizeAnswer,
        ),
        Operation(
            method="POST",
            path="/apply-template",
            handle=apply_template,
            summary="Make a prompt of a conversation",
            body=ApplyTemplateRequest,
            answer=ApplyTemplateAnswer,
        ),
    ),
)
