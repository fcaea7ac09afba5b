"""What a request may ask of the sampler, and the limits of each setting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nextn.errors import RequestError

MAX_LOGPROBS = 100
"""Most alternatives per token that a request may ask for: each is work on every step."""

SEED_BITS = 64
"""Width of a seed: the noise is a function of a 64-bit seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How a token is chosen from a row of logits.

    The steps run in the order of llama.cpp's default chain: logit bias, penalties, top-k,
    typical-p, top-p, min-p and then temperature. A filter at its neutral value is off.

    Attributes:
        temperature: divides the logits that survive the filters; 0 takes the largest logit (after
            bias and penalties; the lowest id among equals) and skips the filters.
        top_k: keep the `top_k` largest logits; 0 is off.
        top_p: keep the shortest prefix of the candidates, sorted by probability, whose probability
            reaches `top_p` (Holtzman et al., 2020); 1 is off.
        min_p: drop candidates less probable than `min_p` times the most probable one (Nguyen et
            al., 2024); 0 is off.
        typical_p: keep the candidates whose surprise is nearest to the entropy, up to this
            probability (Meister et al., 2023); 1 is off.
        repeat_penalty: divides positive and multiplies negative logits of tokens that occur in the
            window (Keskar et al., 2019); 1 is off.
        repeat_last_n: length in tokens of the window of all three penalties, prompt included; -1 is
            the whole sequence, 0 switches the penalties off.
        presence_penalty: subtracted once from each token that occurs in the window.
        frequency_penalty: subtracted once per occurrence in the window.
        logit_bias: added to the logit of each given token id; `-inf` bans a token.
        seed: the seed of the noise, 0 <= seed < 2**64; None lets the engine draw one.
        logprobs: None, or how many of the most probable tokens to report beside the chosen one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: int | None = None

    @property
    def has_penalties(self) -> bool:
        """Whether any penalty changes any logit."""
        return self.repeat_last_n != 0 and (
            self.repeat_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
        )

    def check(self, vocab_size: int) -> None:
        """Check every field against its range.

        Args:
            vocab_size: number of token ids of the model; limits `logit_bias`.

        Raises:
            RequestError: names the first field that is out of range, its value and the range.
        """
        _check_number("temperature", self.temperature, 0.0, 100.0)
        _check_integer("top_k", self.top_k, 0, 2**31 - 1)
        _check_number("top_p", self.top_p, 0.0, 1.0)
        _check_number("min_p", self.min_p, 0.0, 1.0)
        _check_number("typical_p", self.typical_p, 0.0, 1.0)
        _check_number("repeat_penalty", self.repeat_penalty, 0.01, 100.0)
        _check_integer("repeat_last_n", self.repeat_last_n, -1, 2**31 - 1)
        _check_number("presence_penalty", self.presence_penalty, -100.0, 100.0)
        _check_number("frequency_penalty", self.frequency_penalty, -100.0, 100.0)
        if self.seed is not None:
            _check_integer("seed", self.seed, 0, 2**SEED_BITS - 1)
        if self.logprobs is not None:
            _check_integer("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        if not isinstance(self.logit_bias, Mapping):
            raise RequestError(
                f"logit_bias is {self.logit_bias!r}; allowed: a mapping of token ids to numbers",
                field="logit_bias",
            )
        for token, bias in self.logit_bias.items():
            _check_integer("logit_bias: token id", token, 0, vocab_size - 1)
            if bias != -math.inf:
                _check_number(f"logit_bias[{token}]", bias, -1e6, 1e6)


def _check_number(name: str, value: object, low: float, high: float) -> None:
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    # The comparison is false for NaN, which must be refused too.
    if not (numeric and low <= value <= high):  # type: ignore[operator]
        raise RequestError(
            f"{name} is {value!r}; allowed: a number from {low:g} to {high:g}", field=_field(name)
        )


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    integral = isinstance(value, int) and not isinstance(value, bool)
    if not (integral and low <= value <= high):  # type: ignore[operator]
        raise RequestError(
            f"{name} is {value!r}; allowed: an integer from {low} to {high}", field=_field(name)
        )


def _field(name: str) -> str:
    """The setting that a name such as "logit_bias: token id" or "logit_bias[3]" is part of."""
    return name.partition(":")[0].partition("[")[0]
