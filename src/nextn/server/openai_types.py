"""The messages and answers of OpenAI's chat API, as far as a text model can serve them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from nextn.server.writing import Timings

if TYPE_CHECKING:
    from nextn.engine.events import Token
    from nextn.engine.statistics import Statistics
    from nextn.server.fields import WritingFields
    from nextn.text.tokenizer import Tokenizer


FINGERPRINT = "nextn"
"""Says who answered; clients that compare answers look at it."""

DONE = b"data: [DONE]\n\n"
"""The last event of a stream."""


class PromptDetails(msgspec.Struct, kw_only=True):
    """Part of `Usage`."""

    cached_tokens: int


class Usage(msgspec.Struct, kw_only=True):
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails

    @classmethod
    def of(cls, texts: list[Statistics], choices: int) -> Usage:
        """The usage of a request.

        Args:
            texts: all choices of the first prompt, then those of the next one ...; a prompt counts
                once.
            choices: how many each prompt has.
        """
        firsts = texts[::choices]
        prompt = sum(text.prompt_tokens for text in firsts)
        written = sum(text.tokens for text in texts)
        cached = sum(text.cached_tokens for text in firsts)
        return cls(
            prompt_tokens=prompt,
            completion_tokens=written,
            total_tokens=prompt + written,
            prompt_tokens_details=PromptDetails(cached_tokens=cached),
        )


class TopLogprob(msgspec.Struct, kw_only=True):
    """One alternative of a token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob, kw_only=True):
    """A token, and the most probable ones at its place."""

    top_logprobs: list[TopLogprob]


class Logprobs(msgspec.Struct, kw_only=True):
    """Log probabilities of the tokens of a message."""

    content: list[TokenLogprob]
    refusal: None = None


def logprobs_of(tokens: list[Token], tokenizer: Tokenizer) -> Logprobs:
    """Log probabilities of tokens that were asked for them."""
    content = []
    for token in tokens:
        if token.logprob is None or ends_text(token, tokenizer):
            continue
        alternatives = [_alternative(tokenizer, *pair) for pair in token.top_logprobs]
        own = tokenizer.token_bytes(token.id)
        content.append(
            TokenLogprob(
                token=own.decode(errors="replace"),
                logprob=token.logprob,
                bytes=list(own),
                top_logprobs=alternatives,
            )
        )
    return Logprobs(content=content)


def ends_text(token: Token, tokenizer: Tokenizer) -> bool:
    """Whether it is an end token that ended the text, which has no log probability in answers.

    One that was ignored is a token of the text like any other.
    """
    return token.finish_reason == "stop" and token.id in tokenizer.end_of_generation


def _alternative(tokenizer: Tokenizer, token: int, logprob: float) -> TopLogprob:
    own = tokenizer.token_bytes(token)
    return TopLogprob(token=own.decode(errors="replace"), logprob=logprob, bytes=list(own))


class SpeculationMetrics(msgspec.Struct, kw_only=True):
    """What drafting brought in one text, in vLLM's words.

    Attributes:
        mean_acceptance_length: tokens per verified draft, the one that a step yields anyway
            included.
        acceptance_histogram: item i counts the drafts of which exactly i tokens were accepted.
        num_spec_steps: drafts that were verified.
        num_spec_tokens: length of the longest of them.
    """

    mean_acceptance_length: float
    draft_acceptance_rate: float
    acceptance_histogram: list[int]
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int
    num_spec_tokens: int

    @classmethod
    def of(cls, statistics: Statistics) -> SpeculationMetrics:
        """The metrics of a text."""
        drafts = statistics.drafted_at[0] if statistics.drafted_at else 0
        # Drafts of which at least i tokens were accepted.
        at_least = [drafts, *statistics.accepted_at, 0]
        return cls(
            mean_acceptance_length=1 + statistics.accepted / drafts if drafts else 1.0,
            draft_acceptance_rate=statistics.acceptance,
            acceptance_histogram=[more - fewer for more, fewer in pairwise(at_least)],
            num_spec_steps=drafts,
            num_accepted_draft_tokens=statistics.accepted,
            num_draft_tokens=statistics.drafted,
            num_spec_tokens=len(statistics.drafted_at),
        )


class Metrics(msgspec.Struct, kw_only=True):
    """Where vLLM puts `SpeculationMetrics`."""

    speculative_decoding: SpeculationMetrics


class TokenOrigin(msgspec.Struct, kw_only=True):
    """Where a token comes from.

    Attributes:
        text: what became certain with it.
        origin: "trunk" for what a step yields anyway, else who foresaw it, such as "head".
    """

    id: int
    text: str
    origin: str


class NextnAnswer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What nextn says besides, on request.

    Attributes:
        tokens: the tokens of a chunk, or of a whole answer.
        seed: of the noise; the same request with it gives the same text. At the end.
        acceptance_at: accepted share of drafted tokens by their index in the draft, so far.
        judged_at: how many tokens these shares are of.
        steps: steps that wrote. At the end.
        drafted: drafted tokens that were verified, by drafter. At the end.
        accepted: those of them that became text, by drafter. At the end.
    """

    tokens: list[TokenOrigin] | UnsetType = UNSET
    acceptance_at: list[float] | UnsetType = UNSET
    judged_at: list[int] | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    steps: int | UnsetType = UNSET
    drafted: dict[str, int] | UnsetType = UNSET
    accepted: dict[str, int] | UnsetType = UNSET


def origins(tokens: list[Token]) -> list[TokenOrigin]:
    """The origins of tokens."""
    return [
        TokenOrigin(id=token.id, text=token.text, origin=token.drafter or "trunk")
        for token in tokens
    ]


def nextn_so_far(tokens: list[Token], statistics: Statistics) -> NextnAnswer:
    """What nextn says with tokens of a text that is being written."""
    # The engine's thread goes on counting, so the lists may differ by what it has just added.
    judged_at = list(statistics.judged_at)
    counts = zip(list(statistics.accepted_at), judged_at, strict=False)
    return NextnAnswer(
        tokens=origins(tokens),
        acceptance_at=[
            min(accepted / judged, 1.0) if judged else 0.0 for accepted, judged in counts
        ],
        judged_at=judged_at,
    )


class Besides(Protocol):
    """An answer, or a part of one, that says more than the text."""

    timings: Timings | UnsetType
    metrics: Metrics | UnsetType
    nextn: NextnAnswer | UnsetType


def wants_origins(body: WritingFields) -> bool:
    """Whether a request asks for the origins of tokens."""
    return body.nextn is not None and body.nextn.tokens


def wants_usage(body: WritingFields) -> bool:
    """Whether a request asks for the usage at the end of its stream."""
    return body.stream_options is not None and bool(body.stream_options.include_usage)


def say_besides(place: Besides, body: WritingFields, statistics: Statistics, seed: int) -> None:
    """Say at the end of a text how it was written, as far as its request asks for it."""
    place.timings = Timings.of(statistics)
    if body.per_request_spec_decode_metrics is not None:
        place.metrics = Metrics(speculative_decoding=SpeculationMetrics.of(statistics))
    if not wants_origins(body):
        return
    by_drafter = statistics.by_drafter.items()
    place.nextn = NextnAnswer(
        seed=seed,
        steps=statistics.steps,
        acceptance_at=statistics.acceptance_at,
        judged_at=list(statistics.judged_at),
        drafted={name: counts.drafted for name, counts in by_drafter},
        accepted={name: counts.accepted for name, counts in by_drafter},
    )


class FunctionCall(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The function of a tool call, or a part of it."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCall(msgspec.Struct, kw_only=True):
    """A tool call of an answer."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class ToolCallChunk(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A part of a tool call in a stream; the first one has the name."""

    index: int
    function: FunctionCall
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET


class AnswerMessage(msgspec.Struct, kw_only=True):
    """The message that the model wrote."""

    role: Literal["assistant"] = "assistant"
    content: str | None = None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class Choice(msgspec.Struct, kw_only=True):
    """One answer."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length", "tool_calls"]
    logprobs: Logprobs | None = None
    timings: Timings | UnsetType = UNSET
    metrics: Metrics | UnsetType = UNSET
    nextn: NextnAnswer | UnsetType = UNSET


class ChatCompletion(msgspec.Struct, kw_only=True):
    """The answer of /v1/chat/completions.

    With several choices, `timings`, `metrics` and `nextn` are in each of them instead.
    """

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str
    timings: Timings | UnsetType = UNSET
    metrics: Metrics | UnsetType = UNSET
    nextn: NextnAnswer | UnsetType = UNSET


class DeltaMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a chunk adds to the message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallChunk] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, kw_only=True):
    """What a chunk adds to a choice."""

    index: int
    delta: DeltaMessage
    logprobs: Logprobs | None = None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = None


class ChatChunk(msgspec.Struct, kw_only=True):
    """One event of a streamed answer of /v1/chat/completions."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    system_fingerprint: str
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    metrics: Metrics | UnsetType = UNSET
    nextn: NextnAnswer | UnsetType = UNSET
