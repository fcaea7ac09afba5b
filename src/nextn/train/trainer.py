"""One training: optimiser, schedule, checkpoints."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nextn.errors import NextnError, RequestError
from nextn.files.replacing import replacing
from nextn.train.acceptance import Acceptance, count_acceptance
from nextn.train.batches import Batch
from nextn.train.head import Head
from nextn.train.loss import distillation_loss
from nextn.train.muon import Muon
from nextn.train.recursion import run_chains
from nextn.train.settings import TrainSettings
from nextn.train.sharpness import count_agreements

_BETAS = (0.9, 0.95)
_LEAST_LEARNING_RATE = 0.02  # of the largest, at the end


class TrainingError(NextnError):
    """A training that cannot go on."""


class Trainer:
    """Trains a head batch by batch.

    Args:
        head: what is trained.
        settings: how.

    Attributes:
        step: optimiser steps so far.
    """

    def __init__(self, head: Head, settings: TrainSettings) -> None:
        self.step = 0
        self._head = head
        self._settings = settings
        matrices = [x for x in head.trained.values() if x.dim() > 1]
        vectors = [x for x in head.trained.values() if x.dim() == 1]
        rate = settings.learning_rate
        self._optimisers: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices, lr=rate, weight_decay=settings.weight_decay),
            torch.optim.AdamW(vectors, lr=rate, betas=_BETAS, weight_decay=0.0),
        )

    def train(self, batch: Batch, progress: float) -> list[float]:
        """Take one step.

        Args:
            batch: what to learn from.
            progress: share of the whole training that is over, for the learning rate.

        Returns:
            Mean KL of each step of the chains that is trained by now.

        Raises:
            TrainingError: the loss or the gradient is not a number.
        """
        rate = learning_rate(progress, self._settings)
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = rate
        depth = self._settings.depth_at(progress)
        finals, hidden = self._run(batch, depth)
        device = self._head.device
        steps = torch.arange(1, depth + 1, device=device)[:, None]
        valid = (torch.from_numpy(batch.chain_steps).to(device) >= steps).float()
        step_weights = torch.tensor(self._settings.step_weights(depth), device=device)
        weights = valid * step_weights[:, None] / len(batch.rows)
        head = self._head
        loss, per_step = distillation_loss(finals, weights, hidden, head.output, head.trunk_output)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._head.trained.values(), self._settings.clip)
        if not math.isfinite(float(loss.detach())) or not math.isfinite(float(norm)):
            raise TrainingError(
                f"step {self.step + 1}: the loss is not a number; go on from the last checkpoint "
                "with a smaller --learning-rate"
            )
        for optimiser in self._optimisers:
            optimiser.step()
        self.step += 1
        values: list[float] = per_step.tolist()
        return values

    @torch.no_grad()
    def accepts(self, batch: Batch) -> Acceptance:
        """How the head's most probable tokens fare against the tokens of the texts."""
        finals, _ = self._run(batch, self._settings.depth)
        following = torch.from_numpy(batch.following)
        ids = torch.from_numpy(self._head.token_ids)
        right = torch.stack([ids[self._best(final)] == following for final in finals])
        return count_acceptance(right.numpy(), batch.chain_steps)

    @torch.no_grad()
    def agreements(self, batch: Batch, most: int, generator: torch.Generator) -> Tensor:
        """Of up to `most` first drafts of a batch; see `count_agreements`."""
        finals, hidden = self._run(batch, 1)
        every = -(-len(batch.rows) // most)
        head = self._head
        return count_agreements(
            finals[0, ::every], hidden[::every], head.output, head.trunk_output, generator
        )

    def _best(self, final: Tensor) -> Tensor:
        """Index of the largest logit of each row: int64 [rows], on the processor."""
        parts = final.to(self._head.product_type).split(256)
        return torch.cat([(part @ self._head.output.T).argmax(-1) for part in parts]).cpu()

    def _run(self, batch: Batch, depth: int) -> tuple[Tensor, Tensor]:
        """Final states of the head [steps, positions, hidden], and of the trunk."""
        device = self._head.device
        tokens = torch.from_numpy(batch.tokens).to(device)
        hidden = bfloat16_tensor(batch.hidden).to(device)
        rows = torch.from_numpy(batch.rows).to(device)
        with self._autocast():
            chains = run_chains(self._head.model, tokens, hidden.float(), depth)
        finals = torch.stack([final.flatten(0, 1)[rows] for final in chains])
        return finals, hidden.flatten(0, 1)[rows]

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        product_type = self._head.product_type
        if product_type == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._head.device.type, product_type)

    def save(self, path: Path, extra: dict[str, Any]) -> None:
        """Write a checkpoint; the old one stays until the new one is complete.

        Raises:
            OSError: the disk is full, or the like.
        """
        state = {
            "weights": self._head.trained,
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "step": self.step,
            "token_ids": torch.from_numpy(self._head.token_ids),
            **extra,
        }
        try:
            with replacing(path) as file:
                torch.save(state, file)
        except RuntimeError as error:
            # How PyTorch says that a write failed.
            raise OSError(f"{path}: cannot be written: {error}") from error

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._head.load(state["weights"])
        for optimiser, values in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(values)
        self.step = state["step"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `Trainer.save` wrote.

    Raises:
        RequestError: it is no checkpoint, or damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise RequestError(f"{path}: is damaged, or no checkpoint; remove it to start anew") from (
            error
        )
    return state


def learning_rate(progress: float, settings: TrainSettings) -> float:
    """Rises in a line, then falls as a cosine (Loshchilov and Hutter, 2017).

    Args:
        progress: 0 at the start, 1 at the end.
        settings: largest rate, and share of the rise.
    """
    if progress < settings.warm_up:
        # The first step must not be lost.
        return settings.learning_rate * max(0.01, progress / settings.warm_up)
    share = (progress - settings.warm_up) / max(1e-9, 1 - settings.warm_up)
    falling = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return settings.learning_rate * (_LEAST_LEARNING_RATE + (1 - _LEAST_LEARNING_RATE) * falling)


def bfloat16_tensor(bits: NDArray[np.uint16]) -> Tensor:
    """The numbers that bits of bfloat16 stand for."""
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)


def endless_batches(plan: Any, seed: int, start: int) -> Iterator[list[int]]:
    """Batches of one pass over the texts after another, from the one with number `start` on.

    Args:
        plan: gives the batches of a pass from its random generator.
        seed: of the order.
        start: batches that were taken before.
    """
    epoch, skipped = 0, start
    while True:
        batches: list[list[int]] = plan(np.random.default_rng([seed, epoch]))
        if not batches:
            return
        yield from batches[skipped:]
        skipped = max(0, skipped - len(batches))
        epoch += 1
