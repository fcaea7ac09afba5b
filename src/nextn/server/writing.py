"""What all APIs that write text share: settings of a request, and what its text took.

An API turns the fields of its body into `Writing`, makes requests of it, one per choice, and opens
their texts with `open_texts`. How long a text took comes back as `Timings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from nextn.engine.request import GenerationRequest, request_from_settings
from nextn.errors import RequestError
from nextn.sampling.params import SEED_BITS
from nextn.server.errors import ApiError, bad_field
from nextn.server.security import caller

if TYPE_CHECKING:
    from nextn.engine.async_engine import AsyncTokenStream
    from nextn.engine.events import Token
    from nextn.engine.statistics import Statistics
    from nextn.model import Model
    from nextn.sampling import ConstraintSource
    from nextn.server.models import Lease, LoadedModel
    from nextn.server.state import Server, ServerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """How a text is to be written.

    Attributes:
        sampling: fields of `SamplingParams`; those that are missing or None are the server's.
        max_tokens: most tokens to write; None for as many as the context has room for.
        stop: the text ends before the first of these.
        draft: "auto", "off" or a number; None for the server's.
        ignore_end: write on past end tokens.
        form: the form of the text, such as `{"json_schema": {...}}`; see `nextn.grammar`.
        priority: requests with lower numbers are written first.
        cache_prompt: whether the prompt may share its beginning with other texts.
        user: who asks, if one client asks for several people; they take turns.
        choices: how many texts to write. Choice i has the seed of choice 0 plus i.
    """

    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    draft: str | int | None = None
    ignore_end: bool = False
    form: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    cache_prompt: bool = True
    user: str = ""
    choices: int = 1

    def check(self, settings: ServerSettings) -> None:
        """Check the limits of the server.

        Raises:
            ApiError: a limit is exceeded; named by its field.
        """
        if not 1 <= self.choices <= settings.max_choices:
            raise bad_field(
                "n", f"is {self.choices}; allowed: an integer from 1 to {settings.max_choices}"
            )
        if len(self.stop) > settings.max_stops:
            raise bad_field(
                "stop", f"has {len(self.stop)} strings; at most {settings.max_stops} are allowed"
            )
        for stop in self.stop:
            if not 1 <= len(stop) <= settings.max_stop_length:
                raise bad_field(
                    "stop",
                    f"a string of {len(stop)} characters; allowed: 1 to {settings.max_stop_length}",
                )

    def requests(
        self,
        model: Model,
        prompt: list[int],
        settings: ServerSettings,
        *,
        shown_control: frozenset[int] = frozenset(),
    ) -> list[GenerationRequest]:
        """The requests to the engine, one per choice.

        It may take a while: a constraint is compiled for the form.

        Args:
            model: which writes.
            prompt: token ids.
            settings: of the server.
            shown_control: control tokens that have text.

        Raises:
            ApiError, RequestError: see `check`, and `nextn.grammar`.
        """
        self.check(settings)
        given = {name: value for name, value in self.sampling.items() if value is not None}
        first = request_from_settings(
            prompt,
            model.tokenizer.end_of_generation,
            {
                **settings.defaults,
                **given,
                "max_tokens": self.max_tokens,
                "stop": self.stop,
                "draft": settings.draft if self.draft is None else self.draft,
                "ignore_end": self.ignore_end,
                "priority": self.priority,
                "cache_prompt": self.cache_prompt,
            },
            self._constraint(model),
        )
        first = replace(first, shown_control=shown_control, client=f"{caller.get()} {self.user}")
        return [first, *(_with_next_seed(first, index) for index in range(1, self.choices))]

    def _constraint(self, model: Model) -> ConstraintSource | None:
        form = {name: value for name, value in self.form.items() if value is not None}
        if not form:
            return None
        try:
            return model.grammars.from_settings(form)
        except RequestError as error:
            # Its message begins with the name of the field.
            name = str(error).split(maxsplit=1)[0].rstrip(":")
            raise ApiError(400, str(error), field=name, code="invalid_value") from error


def _with_next_seed(request: GenerationRequest, index: int) -> GenerationRequest:
    seed = request.sampling.seed
    if not isinstance(seed, int):
        return request
    seed = (seed + index) % (1 << SEED_BITS)
    return replace(request, sampling=replace(request.sampling, seed=seed))


class Timings(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How long a text took, in llama.cpp's words; times in milliseconds.

    Attributes:
        cache_n: tokens of the prompt that were found in the cache.
        prompt_n: tokens of the prompt that were computed.
        predicted_n: tokens that were written.
        draft_n: drafted tokens that were verified; missing if there were none.
        draft_n_accepted: those of them that became text.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: int | None = None
    draft_n_accepted: int | None = None

    @classmethod
    def of(cls, statistics: Statistics) -> Timings:
        """The timings of a text."""
        computed = statistics.prompt_tokens - statistics.cached_tokens
        prompt_ms = 1000 * statistics.prompt_seconds
        predicted_ms = 1000 * max(statistics.writing_seconds, 0.0)
        later = max(statistics.tokens - 1, 0)
        return cls(
            cache_n=statistics.cached_tokens,
            prompt_n=computed,
            prompt_ms=prompt_ms,
            prompt_per_token_ms=prompt_ms / computed if computed else 0.0,
            prompt_per_second=statistics.prompt_tokens_per_second,
            predicted_n=statistics.tokens,
            predicted_ms=predicted_ms,
            predicted_per_token_ms=predicted_ms / later if later else 0.0,
            predicted_per_second=statistics.tokens_per_second,
            draft_n=statistics.drafted or None,
            draft_n_accepted=statistics.accepted if statistics.drafted else None,
        )


class ServedText:
    """One text that the server writes. Made by `open_texts`; read it to its end, or close it.

    It holds a lease of its model, and is counted when it ends.
    """

    def __init__(self, server: Server, lease: Lease, stream: AsyncTokenStream) -> None:
        self.stream = stream
        self._server = server
        self._lease = lease
        self._open = True

    @property
    def loaded(self) -> LoadedModel:
        """The model that writes."""
        return self._lease.loaded

    @property
    def statistics(self) -> Statistics:
        """Counts and times; final after the last token."""
        return self.stream.statistics

    async def read(self) -> list[Token] | None:
        """The next tokens, or None after the last; may be cancelled and called again.

        Raises:
            NextnError: see `AsyncTokenStream.read`.
        """
        tokens = await self.stream.read()
        if not tokens or tokens[-1].finish_reason is not None:
            self.close()
        return tokens or None

    def close(self) -> None:
        """Cancel the text if it is not finished, and let go of the model; twice does nothing."""
        if self._open:
            self._open = False
            try:
                self.stream.close()
                self._server.text_ended(self)
            finally:
                self._lease.release()


def open_texts(server: Server, lease: Lease, requests: list[GenerationRequest]) -> list[ServedText]:
    """Submit several requests, or none of them.

    Raises:
        RequestError: one is not possible.
        ApiError: too many texts are waiting already.
    """
    server.check_queue(lease.loaded, len(requests))
    texts: list[ServedText] = []
    try:
        for request in requests:
            stream = lease.loaded.engine.open(request)
            texts.append(ServedText(server, lease.share(), stream))
    except BaseException:
        for text in texts:
            text.close()
        raise
    return texts
