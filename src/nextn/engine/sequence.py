"""The state of one text that is being written."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from nextn.engine.events import FinishReason, Token
from nextn.engine.statistics import Statistics, StepTimes
from nextn.engine.stop import StopMatcher
from nextn.sampling import Choice, Follower, Sampler
from nextn.sampling.params import SEED_BITS
from nextn.text.stream import StreamDetokenizer

if TYPE_CHECKING:
    from nextn.cache import BlockCache, SequenceBlocks
    from nextn.engine.request import GenerationRequest
    from nextn.speculate import Committed
    from nextn.text.tokenizer import Tokenizer


class Sequence:
    """A prompt and the text written after it.

    There is one notion of work: `tokens` is all that is known of the text, the first
    `blocks.length` of them have been computed, and the rest is *pending*. A prompt is many pending
    tokens, decoding is one, and a sequence that lost its blocks is pending from the start again.
    The last token is always pending: its row yields the logits for the token after it.

    Args:
        number: an id that no other sequence of the engine has.
        request: what to write; checked.
        tokenizer: of the model.
        vocab_size: width of the logits.
        context_length: most tokens, prompt included.

    Attributes:
        id: its id.
        request: what to write.
        tokens: prompt and text so far.
        sampler: chooses its tokens, with a seed drawn at random if the request has none.
        blocks: its part of the cache; None while it waits.
        finish_reason: None while it runs.
        statistics: counts and times so far.
    """

    __slots__ = (
        "_context_length",
        "_detokenizer",
        "_started",
        "_stop",
        "_submitted",
        "blocks",
        "finish_reason",
        "id",
        "request",
        "sampler",
        "statistics",
        "tokens",
    )

    def __init__(
        self,
        number: int,
        request: GenerationRequest,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        context_length: int,
    ) -> None:
        seed = request.sampling.seed
        self.id = number
        self.request = request
        self.tokens = list(request.prompt)
        source = request.constraint
        self.sampler = Sampler(
            request.sampling,
            secrets.randbits(SEED_BITS) if seed is None else seed,
            vocab_size,
            None if source is None else Follower(source, len(request.prompt)),
        )
        self.blocks: SequenceBlocks | None = None
        self.finish_reason: FinishReason | None = None
        self.statistics = Statistics(prompt_tokens=len(request.prompt))
        self._context_length = context_length
        self._detokenizer = StreamDetokenizer(
            tokenizer, skip_special=True, continues=True, shown=request.shown_control
        )
        self._stop = StopMatcher(request.stop)
        self._submitted = time.perf_counter()
        self._started: float | None = None

    @property
    def remaining(self) -> int:
        """Most tokens that may still be written."""
        room = self._context_length - len(self.tokens)
        limit = self.request.max_tokens
        return room if limit is None else min(room, limit - self.statistics.tokens)

    def start(self, cache: BlockCache) -> SequenceBlocks:
        """Get blocks, those of the longest cached prefix among them if the cache is to be used."""
        shared = self.request.cache_prompt
        self.blocks = cache.open(self.tokens) if shared else cache.open_private()
        return self.blocks

    def mark_started(self, now: float) -> None:
        """Note the start of the first step that has rows of this sequence."""
        if self._started is None and self.blocks is not None:
            self._started = now
            self.statistics.cached_tokens = self.blocks.length

    def release(self) -> None:
        """Give the blocks back; what was computed has to be computed or found again."""
        if self.blocks is not None:
            self.blocks.release()
            self.blocks = None

    def drop_unwritten(self) -> None:
        """Drop tokens that are in `tokens` only because a step was broken off."""
        del self.tokens[len(self.request.prompt) + self.statistics.tokens :]

    def append(self, choice: Choice, drafter: str | None) -> Token:
        """Write one token.

        Args:
            choice: what the sampler chose for position len(tokens).
            drafter: who foresaw it, if anyone.
        """
        position = len(self.tokens)
        self.tokens.append(choice.token)
        self.statistics.tokens += 1
        if choice.token in self.request.end_tokens:
            text, stopped = "", False
            self.finish_reason = "stop"
        else:
            text, stopped = self._stop.push(self._detokenizer.push(choice.token))
            self.finish_reason = "stop" if stopped else self._limit_reached()
        if self.finish_reason is not None and not stopped:
            text += self._rest()
        return Token(
            text,
            choice.token,
            position,
            choice.logprob,
            choice.top_logprobs,
            drafter,
            self.finish_reason,
        )

    def count_step(self, committed: Committed, times: StepTimes) -> None:
        """Count a step that wrote tokens of this sequence, and its time."""
        statistics = self.statistics
        statistics.record(committed.drafted, committed.accepted)
        statistics.seconds = times.ended - self._submitted
        if statistics.steps > 1:
            statistics.draft_seconds += times.drafting
            statistics.execute_seconds += times.executing
        else:
            statistics.time_to_first_token = statistics.seconds
            if self._started is not None:
                statistics.prompt_seconds = times.ended - self._started

    def _limit_reached(self) -> FinishReason | None:
        if self.remaining > 0:
            return None
        return "context" if self.statistics.tokens != self.request.max_tokens else "length"

    def _rest(self) -> str:
        """The end of the text: half a character, and what was held back as a possible stop."""
        text, stopped = self._stop.push(self._detokenizer.finish())
        return text if stopped else text + self._stop.finish()
