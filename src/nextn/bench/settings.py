"""What is to be measured: the settings of a user, and the cases that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nextn.errors import RequestError

Kind = Literal["prompt", "decode", "rows"]

MOST_ROWS = 64
"""Most rows of the verification curve; nobody drafts more."""

MOST_SEQUENCES = 256
_MOST_REPETITIONS = 1000
_DEFAULT_DEPTHS = (0, 4096)


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured.

    Attributes:
        kind: "prompt" (all tokens together), "decode" (one token of each sequence per step), or
            "rows" (one step of one sequence, as when drafts are verified).
        tokens: tokens of each sequence.
        depth: tokens that are in the cache before.
        sequences: sequences that are stepped together.
    """

    kind: Kind
    tokens: int
    depth: int
    sequences: int = 1

    @property
    def name(self) -> str:
        """The name that llama-bench gives it, with the number of sequences where it has none."""
        name = {"prompt": "pp", "decode": "tg", "rows": "rows"}[self.kind] + str(self.tokens)
        if self.sequences > 1:
            name += f" b{self.sequences}"
        return f"{name} @ d{self.depth}" if self.depth else name

    @property
    def total_tokens(self) -> int:
        """Tokens of all sequences."""
        return self.tokens * self.sequences

    @property
    def end(self) -> int:
        """Positions of a sequence that it needs."""
        return self.depth + self.tokens


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user asked for.

    Attributes:
        prompt: tokens of a prompt; 0 measures none.
        generate: tokens that are decoded one by one; 0 measures none.
        depths: tokens that are in the cache before; None takes 0 and 4096 as far as they fit.
        batches: sequences that are decoded together, at the least depth.
        rows: most rows of the verification curve; 0 measures none.
        repetitions: how often each case is measured.
    """

    prompt: int = 512
    generate: int = 128
    depths: tuple[int, ...] | None = None
    batches: tuple[int, ...] = (1, 2, 4, 8)
    rows: int = 16
    repetitions: int = 5

    def check(self) -> None:
        """Refuse what no model can do.

        Raises:
            RequestError: names the setting, its value and what is allowed.
        """
        for option, value, least, most in (
            ("-p", self.prompt, 0, None),
            ("-n", self.generate, 0, None),
            ("--rows", self.rows, 0, MOST_ROWS),
            ("-r", self.repetitions, 1, _MOST_REPETITIONS),
            *(("-d", depth, 0, None) for depth in self.depths or ()),
            *(("-b", batch, 1, MOST_SEQUENCES) for batch in self.batches),
        ):
            if value < least or (most is not None and value > most):
                allowed = f"{least} or more" if most is None else f"{least} to {most}"
                raise RequestError(f"{option}: {value} is not possible; allowed: {allowed}")
        if self.depths == ():
            raise RequestError("-d: no depth; 0 measures without anything in the cache")
        if not (self.prompt or self.generate or self.rows):
            raise RequestError("nothing to measure: -p, -n and --rows are all 0")

    def cases(self, context: int) -> list[Case]:
        """All cases, depth by depth, the least one first.

        Args:
            context: positions that the model was trained for.

        Raises:
            RequestError: a case that does not fit; says both numbers.
        """
        self.check()
        longest = max(self.prompt, self.generate, self.rows)
        depths = sorted(set(self.depths or ()))
        if not depths:
            depths = [depth for depth in _DEFAULT_DEPTHS if not depth or depth + longest <= context]
        cases = list(dict.fromkeys(case for depth in depths for case in self._at(depth, depths[0])))
        for case in cases:
            if case.end > context:
                raise RequestError(
                    f"{case.name} needs a context of {case.end:,} tokens, but the model was "
                    f"trained for {context:,}; take less of -p, -n or -d"
                )
        return cases

    def _at(self, depth: int, least_depth: int) -> Iterator[Case]:
        if self.prompt:
            yield Case("prompt", self.prompt, depth)
        if self.generate:
            yield Case("decode", self.generate, depth)
            # To fill many sequences deeply takes minutes and gigabytes.
            for batch in sorted(self.batches) if depth == least_depth else ():
                yield Case("decode", self.generate, depth, batch)
        for rows in range(1, self.rows + 1):
            yield Case("rows", rows, depth)
