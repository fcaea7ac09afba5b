"""What load a server gets, and what counts as good enough."""

from __future__ import annotations

from dataclasses import dataclass, field

from nextn.engine import MAX_DRAFT
from nextn.engine.request import DraftSetting
from nextn.errors import RequestError
from nextn.prompts import CATEGORIES, Prompt, load
from nextn.sampling import SamplingParams

MAX_CONCURRENCY = 256
"""Most requests that are in flight at a time; each has a thread."""

_TURNS = 3
"""Requests of a round for each that is in flight, at least."""

GOOD = ("ttft", "tpot", "e2e")
"""Times that may have a limit; see `nextn.bench.serve.client.Answer`."""


@dataclass(frozen=True, slots=True)
class Load:
    """How requests arrive.

    Attributes:
        concurrency: so many are in flight at any time; None for arrivals at a rate.
        rate: mean number of arrivals per second; the gaps are those of a Poisson process.
    """

    concurrency: int | None = None
    rate: float | None = None

    def __str__(self) -> str:
        if self.rate is not None:
            return f"{self.rate:g}/s"
        return str(self.concurrency)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asked for.

    Attributes:
        concurrencies: numbers of requests in flight to measure, one after the other.
        rates: arrivals per second to measure, instead of these.
        requests: how many of each load and side; see `count` for where it is more.
        rounds: in how many parts they are sent; the sides take turns after each part.
        drafts: values of `mtp` that are compared; the first is what others are compared with.
        categories: of the prompts; see `nextn.prompts`.
        tokens: most tokens of an answer.
        temperature: 0 always takes the most probable token.
        ignore_end: answers go on past end tokens, so that all have `tokens` tokens.
        limits: by name, seconds within which a request must stay to be good; see `GOOD`.
        seed: of the order of prompts, the arrivals and the texts.
    """

    concurrencies: tuple[int, ...] = (1, 4)
    rates: tuple[float, ...] = ()
    requests: int = 16
    rounds: int = 2
    drafts: tuple[DraftSetting, ...] = ("off", "auto")
    categories: tuple[str, ...] = CATEGORIES
    tokens: int = 128
    temperature: float = 0.0
    ignore_end: bool = False
    limits: dict[str, float] = field(default_factory=dict)
    seed: int = 0

    @property
    def loads(self) -> tuple[Load, ...]:
        """All loads, in order."""
        if self.rates:
            return tuple(Load(rate=rate) for rate in self.rates)
        return tuple(Load(concurrency=number) for number in self.concurrencies)

    def count(self, load: Load) -> int:
        """Requests of a load: `requests`, but in each round at least three for each in flight.

        When no more are to be sent, fewer and fewer are in flight.
        """
        return max(self.requests, _TURNS * self.rounds * (load.concurrency or 0))

    def check(self) -> None:
        """Refuse what is not possible.

        Raises:
            RequestError: names the option, its value and what is allowed.
        """
        for option, value, least, most in (
            *(("--concurrency", number, 1, MAX_CONCURRENCY) for number in self.concurrencies),
            ("--requests", self.requests, 1, None),
            ("--rounds", self.rounds, 1, self.requests),
            ("-n", self.tokens, 2, None),
            ("--seed", self.seed, 0, None),
        ):
            if value < least or (most is not None and value > most):
                allowed = f"{least} or more" if most is None else f"{least} to {most}"
                raise RequestError(f"{option}: {value} is not possible; allowed: {allowed}")
        for rate in self.rates:
            if not 0.0 < rate <= 10_000.0:
                raise RequestError(f"--rate: {rate:g} is not possible; allowed: above 0, to 10000")
        if not self.loads:
            raise RequestError("--concurrency: none given; use a list of numbers such as 1,4")
        if not self.drafts or len(set(self.drafts)) < len(self.drafts):
            raise RequestError("--mtp: give different settings, such as off,auto")
        for draft in self.drafts:
            if isinstance(draft, int) and not 1 <= draft <= MAX_DRAFT:
                raise RequestError(f"--mtp: {draft} is not possible; allowed: 1 to {MAX_DRAFT}")
        for name, limit in self.limits.items():
            if name not in GOOD:
                raise RequestError(f"--goodput: there is no {name!r}; use {', '.join(GOOD)}")
            if not limit > 0.0:
                raise RequestError(f"--goodput: the limit of {name} must be above 0 ms")
        if not self.categories:
            raise RequestError(f"--categories: none given; use {', '.join(CATEGORIES)}")
        SamplingParams(temperature=self.temperature).check(1)
        self.load_prompts()

    def load_prompts(self) -> list[Prompt]:
        """The prompts of the categories, one of each in turn.

        Raises:
            RequestError: a category that does not exist.
        """
        lists = [load("evaluation", [name]) for name in dict.fromkeys(self.categories)]
        longest = max(map(len, lists))
        return [prompts[n] for n in range(longest) for prompts in lists if n < len(prompts)]
