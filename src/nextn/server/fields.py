"""The fields that OpenAI's chat and completion requests share, with those of llama.cpp and vLLM."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nextn.engine.request import MAX_DRAFT
from nextn.sampling.params import MAX_LOGPROBS
from nextn.server.errors import bad_field
from nextn.server.writing import Writing

_Share = Annotated[float, Meta(ge=0.0, le=1.0)]
_Penalty = Annotated[float, Meta(ge=-100.0, le=100.0)]
_Depth = Annotated[int, Meta(ge=0, le=MAX_DRAFT)]
_Bias = dict[str, float | bool] | list[tuple[int, float | bool]]


class StreamOptions(msgspec.Struct, kw_only=True):
    """What a stream has besides the text.

    Attributes:
        include_usage: a last chunk without choices says the usage.
    """

    include_usage: bool | None = None


class SpeculativeField(msgspec.Struct, kw_only=True):
    """Drafting of one request, as an object.

    Attributes:
        enabled: false is as `mtp: "off"`.
        max_tokens: most drafted tokens per step.
        n_max: the same, in llama.cpp's words.
        num_speculative_tokens: the same, in vLLM's words.
    """

    enabled: bool | None = None
    max_tokens: _Depth | None = None
    n_max: _Depth | None = None
    num_speculative_tokens: _Depth | None = None


class NextnRequest(msgspec.Struct, kw_only=True):
    """What nextn may say besides the answer.

    Attributes:
        tokens: where each token comes from, and at the end what drafting brought.
    """

    tokens: bool = False


class StructuredOutputs(msgspec.Struct, kw_only=True):
    """The form of the text, in vLLM's words; one of them."""

    json: dict[str, Any] | str | None = None
    regex: str | None = None
    grammar: str | None = None


class WritingFields(msgspec.Struct, kw_only=True):
    """How a text is to be written; every field may be missing or null.

    Attributes:
        mtp: "auto", "off", or a number of tokens to draft per step. It changes the speed only.
        logit_bias: numbers by token id, or pairs of both; false bans a token.
        cache_prompt: false computes the whole prompt, even if an earlier text began like it, and
            keeps nothing of the text for later ones.
        priority: requests with lower numbers are written first, and instead of others if need be.
        user: who asks, if one client asks for several people; they take turns.
        per_request_spec_decode_metrics: asks for vLLM's `metrics.speculative_decoding`.
        nextn: what nextn may say besides.
    """

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    max_tokens: Annotated[int, Meta(ge=-1)] | None = None
    n_predict: Annotated[int, Meta(ge=-1)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: Annotated[float, Meta(ge=0.0, le=100.0)] | None = None
    top_p: _Share | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: _Share | None = None
    typical_p: _Share | None = None
    repeat_penalty: Annotated[float, Meta(ge=0.01, le=100.0)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100.0)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    logit_bias: _Bias | None = None
    ignore_eos: bool | None = None
    cache_prompt: bool | None = None
    priority: int | None = None
    user: str | None = None
    mtp: _Depth | Literal["auto", "off"] | None = None
    speculative: SpeculativeField | None = None
    speculative_n_max: _Depth | None = msgspec.field(name="speculative.n_max", default=None)
    num_speculative_tokens: _Depth | None = None
    timings_per_token: bool | None = None
    response_format: dict[str, Any] | None = None
    grammar: str | None = None
    json_schema: dict[str, Any] | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    per_request_spec_decode_metrics: Literal["summary", "detailed"] | None = None
    nextn: NextnRequest | None = None

    def writing(self, *, logprobs: int | None, max_tokens: int | None = None) -> Writing:
        """The settings that these fields stand for.

        Args:
            logprobs: None, or how many alternatives to report per token.
            max_tokens: the limit in a field of the API's own.

        Raises:
            ApiError: fields that contradict each other, or have no meaning.
        """
        if max_tokens is None:
            max_tokens = self.n_predict if self.max_tokens is None else self.max_tokens
        if max_tokens == 0:
            raise bad_field("max_tokens", "is 0; allowed: an integer from 1, or -1 for no limit")
        if logprobs is not None and logprobs > MAX_LOGPROBS:
            raise bad_field("logprobs", f"is {logprobs}; at most {MAX_LOGPROBS} are allowed")
        return Writing(
            sampling={
                "temperature": self.temperature,
                "top_p": self.top_p,
                "top_k": 0 if self.top_k == -1 else self.top_k,
                "min_p": self.min_p,
                "typical_p": self.typical_p,
                "repeat_penalty": _first(self.repeat_penalty, self.repetition_penalty),
                "repeat_last_n": self.repeat_last_n,
                "presence_penalty": self.presence_penalty,
                "frequency_penalty": self.frequency_penalty,
                "logit_bias": _logit_bias(self.logit_bias),
                "seed": None if self.seed == -1 else self.seed,
                "logprobs": logprobs,
            },
            max_tokens=None if max_tokens == -1 else max_tokens,
            stop=stop_strings(self.stop),
            draft=self._draft(),
            ignore_end=bool(self.ignore_eos),
            form=self._form(),
            priority=self.priority or 0,
            cache_prompt=self.cache_prompt is not False,
            user=self.user or "",
            choices=1 if self.n is None else self.n,
        )

    def _form(self) -> dict[str, Any]:
        more = self.structured_outputs or StructuredOutputs()
        given: dict[str, list[Any]] = {
            "response_format": [self.response_format],
            "grammar": [self.grammar, more.grammar, self.guided_grammar],
            "json_schema": [self.json_schema, more.json, self.guided_json],
            "regex": [more.regex, self.guided_regex],
        }
        return {name: _first(*values) for name, values in given.items()}

    def _draft(self) -> str | int | None:
        given: list[str | int] = [
            value
            for value in (self.mtp, self.speculative_n_max, self.num_speculative_tokens)
            if value is not None
        ]
        more = self.speculative
        if more is not None:
            numbers = (more.max_tokens, more.n_max, more.num_speculative_tokens)
            given += [number for number in numbers if number is not None]
            if more.enabled is not None and (not more.enabled or not given):
                given.append("auto" if more.enabled else "off")
        settings = {value or "off" for value in given}
        if len(settings) > 1:
            raise bad_field(
                "mtp", "the fields for drafting contradict each other; give one of them"
            )
        return settings.pop() if settings else None


def stop_strings(stop: str | list[str] | None) -> tuple[str, ...]:
    """The stop strings of a field that may be one, several or null."""
    if stop is None:
        return ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _logit_bias(given: _Bias | None) -> dict[int, float] | None:
    if given is None:
        return None
    biases: dict[int, float] = {}
    for token, bias in given.items() if isinstance(given, dict) else given:
        if isinstance(token, str):
            if not token.isascii() or not token.isdigit():
                raise bad_field("logit_bias", f"{token[:40]!r} is no token id")
            token = int(token[:20])
        if bias is True:
            raise bad_field("logit_bias", f"token {token}: true is no bias; give a number or false")
        biases[token] = -math.inf if bias is False else float(bias)
    return biases
