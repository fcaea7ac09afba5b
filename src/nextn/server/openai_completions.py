"""OpenAI's older /v1/completions: continues texts."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from nextn.server.errors import bad_field, openai_shape, to_api_error
from nextn.server.fields import WritingFields
from nextn.server.openai_types import (
    DONE,
    FINGERPRINT,
    Besides,
    Metrics,
    NextnAnswer,
    Usage,
    ends_text,
    origins,
    say_besides,
    wants_origins,
    wants_usage,
)
from nextn.server.operation import Call, Family, Operation, json_response
from nextn.server.streaming import EventStream, closed_when_left, merge, sse
from nextn.server.writing import ServedText, Timings, open_texts

if TYPE_CHECKING:
    from nextn.engine.events import Token
    from nextn.engine.request import GenerationRequest
    from nextn.model import Model
    from nextn.server.state import Server

DEFAULT_MAX_TOKENS = 16
"""OpenAI's; a chat has no such default."""


class CompletionRequest(WritingFields, kw_only=True):
    """The body of /v1/completions; fields that are not listed are ignored.

    Attributes:
        prompt: one or several texts or lists of token ids. The texts of control tokens are control
            tokens.
        echo: whether the answer begins with the prompt.
        logprobs: how many alternatives to report per token.
    """

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0)] | None = None
    suffix: str | None = None
    best_of: int | None = None

    def prompts(self) -> list[str | list[int]]:
        """The prompts one by one.

        Raises:
            ApiError: they are of different kinds, or none.
        """
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if not prompt:
            raise bad_field("prompt", "is empty; give a text or token ids")
        ids = [item for item in prompt if isinstance(item, int)]
        others = [item for item in prompt if not isinstance(item, int)]
        if ids and others:
            raise bad_field("prompt", "mixes token ids with other prompts")
        return [ids] if ids else others

    def check(self) -> None:
        """Refuse what would change the answer and is not supported.

        Raises:
            ApiError: names the field.
        """
        if self.suffix:
            raise bad_field("suffix", "is not supported; leave it out")
        if self.best_of is not None and self.best_of != (1 if self.n is None else self.n):
            raise bad_field("best_of", "is not supported; leave it out, or give the value of n")
        if self.echo and self.logprobs is not None:
            raise bad_field("echo", "is not supported with logprobs; leave one of them out")


class CompletionLogprobs(msgspec.Struct, kw_only=True):
    """Log probabilities of tokens, side by side; offsets are characters of the answer's text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, kw_only=True):
    """One text, or a piece of it."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: CompletionLogprobs | None = None
    timings: Timings | UnsetType = UNSET
    metrics: Metrics | UnsetType = UNSET
    nextn: NextnAnswer | UnsetType = UNSET


class Completion(msgspec.Struct, kw_only=True):
    """The answer of /v1/completions, or one event of it.

    With several texts, `timings`, `metrics` and `nextn` are in each of them instead.
    """

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    object: Literal["text_completion"] = "text_completion"
    system_fingerprint: str = FINGERPRINT
    usage: Usage | UnsetType | None = UNSET
    timings: Timings | UnsetType = UNSET
    metrics: Metrics | UnsetType = UNSET
    nextn: NextnAnswer | UnsetType = UNSET


@dataclass(slots=True)
class _Text:
    """One text of an answer.

    Attributes:
        served: its tokens.
        echo: the text of its prompt, if the answer begins with it.
        length: characters so far.
    """

    served: ServedText
    echo: str
    length: int = 0

    @property
    def finish_reason(self) -> Literal["stop", "length"]:
        """Why it ended, in OpenAI's words."""
        return "stop" if self.served.stream.finish_reason == "stop" else "length"


class _Answers:
    """What the texts of a request become."""

    def __init__(self, body: CompletionRequest, texts: list[_Text]) -> None:
        self._body = body
        self._loaded = texts[0].served.loaded
        self._texts = texts
        self._id = f"cmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._origins = wants_origins(body)
        self._usage = wants_usage(body)

    def close(self) -> None:
        for text in self._texts:
            text.served.close()

    def _completion(self, choices: list[CompletionChoice]) -> Completion:
        return Completion(
            id=self._id, created=self._created, model=self._loaded.name, choices=choices
        )

    def _piece(self, index: int, tokens: list[Token]) -> CompletionChoice:
        text = self._texts[index]
        choice = CompletionChoice(index=index, text="".join([token.text for token in tokens]))
        if self._body.logprobs is not None:
            choice.logprobs = self._logprobs(tokens, text.length)
        text.length += len(choice.text)
        return choice

    def _logprobs(self, tokens: list[Token], offset: int) -> CompletionLogprobs:
        tokenizer = self._loaded.model.tokenizer
        result = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])

        def spelled(token: int) -> str:
            return tokenizer.token_bytes(token).decode(errors="replace")

        for token in tokens:
            if token.logprob is not None and not ends_text(token, tokenizer):
                result.tokens.append(spelled(token.id))
                result.token_logprobs.append(token.logprob)
                # Tokens that are spelled alike share a place; the most probable one has it.
                best_last = reversed(token.top_logprobs)
                result.top_logprobs.append({spelled(other): value for other, value in best_last})
                result.text_offset.append(offset)
            offset += len(token.text)
        return result

    def _say_besides(self, place: Besides, text: _Text) -> None:
        say_besides(place, self._body, text.served.statistics, text.served.stream.seed)

    def _all_usage(self) -> Usage:
        choices = self._body.n or 1
        return Usage.of([text.served.statistics for text in self._texts], choices)

    async def whole(self) -> Completion:
        """The answer in one piece."""
        choices = []
        for index, text in enumerate(self._texts):
            tokens: list[Token] = []
            while (more := await text.served.read()) is not None:
                tokens += more
            choice = self._piece(index, tokens)
            choice.text = text.echo + choice.text
            choice.finish_reason = text.finish_reason
            choices.append(choice)
        answer = self._completion(choices)
        answer.usage = self._all_usage()
        for choice, text in zip(choices, self._texts, strict=True):
            # What belongs to one text is where llama.cpp has it, if there is one only.
            self._say_besides(answer if len(choices) == 1 else choice, text)
        return answer

    async def events(self) -> AsyncIterator[bytes]:
        """The events of a streamed answer."""
        try:
            for index, text in enumerate(self._texts):
                if text.echo:
                    yield sse(self._event(CompletionChoice(index=index, text=text.echo)))
            readers = [text.served.read for text in self._texts]
            async for index, tokens in merge(readers):
                choice = self._piece(index, tokens)
                ended = tokens[-1].finish_reason is not None
                if not (choice.text or choice.logprobs or self._origins or ended):
                    continue
                event = self._event(choice)
                if self._origins:
                    event.nextn = NextnAnswer(tokens=origins(tokens))
                if ended:
                    if self._origins:
                        yield sse(event)
                        event = self._event(CompletionChoice(index=index, text=""))
                    event.choices[0].finish_reason = self._texts[index].finish_reason
                    self._say_besides(event, self._texts[index])
                elif self._body.timings_per_token:
                    event.timings = Timings.of(self._texts[index].served.statistics)
                yield sse(event)
            if self._usage:
                last = self._completion([])
                last.usage = self._all_usage()
                yield sse(last)
            yield DONE
        except Exception as error:
            # Whoever reads slowly must not keep the other texts going.
            self.close()
            yield sse(openai_shape(to_api_error(error, FAMILY.setting_names)))

    def _event(self, choice: CompletionChoice) -> Completion:
        event = self._completion([choice])
        if self._usage:
            event.usage = None
        return event


async def complete(call: Call[CompletionRequest]) -> Response:
    """Continue texts, streamed or in one piece."""
    body = call.body
    body.check()
    prompts = body.prompts()
    if len(prompts) * (body.n or 1) > call.server.settings.max_choices:
        raise bad_field(
            "prompt",
            f"{len(prompts)} prompts times n are too many texts; at most "
            f"{call.server.settings.max_choices} are allowed",
        )
    with await call.server.models.acquire(body.model) as lease:
        model = lease.loaded.model
        requests = await asyncio.to_thread(_prepare, model, body, prompts, call.server)
        echoes = [_prompt_text(model, each.prompt) if body.echo else "" for each in requests]
        served = open_texts(call.server, lease, requests)
    answers = _Answers(body, [_Text(*pair) for pair in zip(served, echoes, strict=True)])
    if body.stream:
        ping = call.server.settings.ping_seconds
        return EventStream(answers.events(), answers.close, ping_seconds=ping)
    async with closed_when_left(call.request, answers.close):
        return json_response(await answers.whole())


def _prepare(
    model: Model, body: CompletionRequest, prompts: list[str | list[int]], server: Server
) -> list[GenerationRequest]:
    limit = body.max_tokens if body.max_tokens is not None else body.n_predict
    writing = body.writing(
        logprobs=body.logprobs, max_tokens=DEFAULT_MAX_TOKENS if limit is None else limit
    )
    tokens = [
        model.tokenizer.encode(prompt, parse_special=True) if isinstance(prompt, str) else prompt
        for prompt in prompts
    ]
    first = writing.requests(model, tokens[0], server.settings)
    return [replace(request, prompt=prompt) for prompt in tokens for request in first]


def _prompt_text(model: Model, prompt: list[int]) -> str:
    return model.tokenizer.decode(prompt, skip_special=True)


FAMILY = Family(
    name="OpenAI completions",
    prefixes=("/v1/completions",),
    setting_names={"draft": "mtp"},
    operations=(
        Operation(
            method="POST",
            path="/v1/completions",
            handle=complete,
            summary="Continue texts",
            body=CompletionRequest,
            answer=Completion,
            event=Completion,
        ),
    ),
)
