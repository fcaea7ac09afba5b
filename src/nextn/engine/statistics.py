"""What one generation did and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from nextn.speculate import SpeculationStatistics


class StepTimes(NamedTuple):
    """Where the time of a step went.

    Attributes:
        drafting: seconds in which the drafts were made, and in which the drafters learned from the
            step before.
        executing: seconds of the executor's step.
        ended: when the tokens were chosen, on the clock of `time.perf_counter`.
    """

    drafting: float
    executing: float
    ended: float


@dataclass(slots=True)
class Statistics(SpeculationStatistics):
    """Counts and times of one generation; they grow while it runs.

    Those of `SpeculationStatistics` count the steps that wrote at least one token, and the drafted
    tokens that were verified, without those after the end of the text.

    Attributes:
        prompt_tokens: length of the prompt.
        cached_tokens: tokens of it that were found in the prefix cache and not computed.
        tokens: tokens written, an end token included.
        prompt_seconds: from the start of the first step with rows of the prompt to the first token;
            0 before it.
        seconds: from the submission to the last token so far.
        time_to_first_token: seconds from the submission to the first token; 0 before it.
        draft_seconds: time in which drafts were made after the first token, for all sequences of
            the steps that wrote.
        execute_seconds: time of the executor in the same steps.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    prompt_seconds: float = 0.0
    seconds: float = 0.0
    time_to_first_token: float = 0.0
    draft_seconds: float = 0.0
    execute_seconds: float = 0.0

    @property
    def writing_seconds(self) -> float:
        """Time from the first token to the last one so far."""
        return self.seconds - self.time_to_first_token

    @property
    def rest_seconds(self) -> float:
        """What remains of it besides drafts and the executor: choosing tokens, text, scheduling."""
        return self.writing_seconds - self.draft_seconds - self.execute_seconds

    @property
    def tokens_per_second(self) -> float:
        """Speed of writing after the first token; 0 before there is a second one."""
        seconds = self.writing_seconds
        return (self.tokens - 1) / seconds if self.tokens > 1 and seconds > 0.0 else 0.0

    @property
    def prompt_tokens_per_second(self) -> float:
        """Speed of reading the part of the prompt that was not cached; 0 before the first token."""
        computed = self.prompt_tokens - self.cached_tokens
        return computed / self.prompt_seconds if self.prompt_seconds > 0.0 else 0.0

    @property
    def tokens_per_step(self) -> float:
        """Tokens per step that wrote any; exactly 1 without speculation, 0 before the first."""
        return self.tokens / self.steps if self.steps else 0.0
