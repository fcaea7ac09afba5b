"""What one generation did and how long it took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Statistics:
    """Counts and times of one generation; they grow while it runs.

    Attributes:
        prompt_tokens: length of the prompt.
        cached_tokens: tokens of it that were found in the prefix cache and not computed.
        tokens: tokens written, an end token included.
        prompt_seconds: from the start of the first step with rows of the prompt to the first token;
            0 before it.
        seconds: from the submission to the last token so far.
        time_to_first_token: seconds from the submission to the first token; 0 before it.
        steps: steps that wrote at least one token.
        drafted: drafted tokens that were verified, those after the end of the text left out.
        accepted: tokens of them that became text.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    prompt_seconds: float = 0.0
    seconds: float = 0.0
    time_to_first_token: float = 0.0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0

    @property
    def tokens_per_second(self) -> float:
        """Speed of writing after the first token; 0 before there is a second one."""
        seconds = self.seconds - self.time_to_first_token
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

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that became text; 0 if none were drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0
