"""What `nextn train` can be told, and the limits of each setting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from nextn.errors import RequestError

MOST_DEPTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The texts that the trunk writes.

    Attributes:
        tokens: tokens to write, those of prompts not counted.
        most_written: most tokens of one answer.
        free_share: share of the answers whose question the model invents itself.
        greedy_share: share of the answers that are written at temperature 0.
        held_out: texts per category for validation, written at temperature 0.
        seed: of all choices; the same seed gives the same texts.
        sequences: texts that are written at a time.
    """

    tokens: int = 1_500_000
    most_written: int = 400
    free_share: float = 0.5
    greedy_share: float = 0.25
    held_out: int = 20
    seed: int = 0
    sequences: int = 16

    def check(self) -> None:
        """Check all settings.

        Raises:
            RequestError: one is out of its range.
        """
        _check_integer("--tokens", self.tokens, 1)
        _check_integer("--answer-tokens", self.most_written, 8)
        _check_integer("--held-out", self.held_out, 1)
        _check_integer("--sequences", self.sequences, 1, 256)
        for name, share in (("--free", self.free_share), ("--greedy", self.greedy_share)):
            _check_number(name, share, 0.0, 1.0)

    def identity(self) -> dict[str, Any]:
        """What decides which texts there are, in which order; not how many, nor how fast."""
        fields = dataclasses.asdict(self)
        return {
            name: fields[name] for name in sorted(fields) if name not in ("tokens", "sequences")
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How the head is trained.

    Attributes:
        steps: optimiser steps; None if `hours` is the budget.
        hours: time to train; None if `steps` is the budget.
        batch_tokens: most tokens of a batch, padding included.
        depth: steps of a chain that are trained.
        growth: share of the training in which the depth grows from 1 to that. What makes the first
            draft right helps all others, and a chain of one step costs a third of one of four.
        decay: weight of a step of the chain, relative to the one before.
        learning_rate: the largest.
        warm_up: share of the training in which the learning rate rises.
        weight_decay: of matrices.
        clip: largest norm of a gradient.
        longest: positions of a text that are trained on; the rest is cut off.
        draft_vocabulary: most tokens that the head can draft.
        coverage: share of the written tokens that the draft vocabulary must hold, if it can.
        average: share of the head that the training began with in the weights of the result.
        validations: how often acceptance is measured.
        seed: of the order of the texts.
        threads: threads that compute.
    """

    steps: int | None = None
    hours: float | None = None
    batch_tokens: int = 4096
    depth: int = 4
    growth: float = 0.5
    decay: float = 0.7
    learning_rate: float = 5e-3
    warm_up: float = 0.02
    weight_decay: float = 0.01
    clip: float = 1.0
    longest: int = 640
    draft_vocabulary: int = 16_384
    coverage: float = 0.9995
    average: float = 0.0
    validations: int = 20
    seed: int = 0
    threads: int | None = None

    def check(self) -> None:
        """Check all settings.

        Raises:
            RequestError: one is out of its range, or there is not exactly one budget.
        """
        if (self.steps is None) == (self.hours is None):
            raise RequestError("give one budget: --steps or --hours")
        if self.steps is not None:
            _check_integer("--steps", self.steps, 1)
        if self.hours is not None:
            _check_number("--hours", self.hours, 1e-6, 1e6)
        _check_integer("--batch-tokens", self.batch_tokens, 32)
        _check_integer("--depth", self.depth, 1, MOST_DEPTH)
        _check_number("--growth", self.growth, 0.0, 1.0)
        _check_number("--decay", self.decay, 1e-3, 1.0)
        _check_number("--learning-rate", self.learning_rate, 1e-9, 1.0)
        _check_integer("--longest", self.longest, 8)
        _check_integer("--draft-vocabulary", self.draft_vocabulary, 16)
        _check_number("--coverage", self.coverage, 0.0, 1.0)
        _check_number("--average", self.average, 0.0, 1.0)
        _check_integer("--validations", self.validations, 1)
        if self.batch_tokens < self.longest:
            raise RequestError(
                f"--batch-tokens is {self.batch_tokens}, but must be at least --longest, "
                f"{self.longest}"
            )

    def depth_at(self, progress: float) -> int:
        """Steps of a chain that are trained when a share of the training is over."""
        if progress >= self.growth:
            return self.depth
        return 1 + int((self.depth - 1) * progress / self.growth)

    def step_weights(self, depth: int) -> list[float]:
        """Weight of each step of a chain; they sum to 1."""
        weights = [self.decay**step for step in range(depth)]
        return [weight / sum(weights) for weight in weights]

    def identity(self) -> dict[str, Any]:
        """What must not change when a training goes on."""
        fields = dataclasses.asdict(self)
        return {name: fields[name] for name in sorted(fields) if name not in ("threads",)}


def _check_integer(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"{least} to {most}"
        raise RequestError(f"{name} is {value}; allowed: {allowed}")


def _check_number(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise RequestError(f"{name} is {value:g}; allowed: {least:g} to {most:g}")
