"""The loss: how much of the trunk's distribution the head misses, over the draft vocabulary.

What decides about drafts is the overlap of the two distributions, the sum of min(trunk, head). With
KL(trunk || head) alone, a head that is too small to be right about all tokens spends itself on
unlikely ones. But where there is no overlap, nothing tells how to get some. So each position has a
mixture of both, with more of the KL the smaller the overlap is (the LK loss of Samarin et al.,
2026, arXiv 2602.23881):

    loss = share * KL(trunk || head) + (1 - share) * (1 - overlap),   share = exp(-3 * overlap)

The share counts as a constant.

Logits of thousands of positions and tens of thousands of tokens would fill the memory. So loss and
gradient are computed together, a few positions at a time, and only the gradient of the hidden
states is kept. The trunk's probabilities of a position are computed once for all steps of the
chains.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 21
"""Logits that are alive at a time; a few matrices of this size fit into a processor's cache."""

_TURN = 3.0
"""How fast the overlap takes the place of the KL as it grows."""


def positions_at_a_time(vocabulary: int) -> int:
    """Of how many positions the logits are computed together."""
    return max(1, _CHUNK_ELEMENTS // vocabulary)


def distillation_loss(
    finals: Tensor, weights: Tensor, hidden: Tensor, output: Tensor, trunk_output: Tensor
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the loss over steps and positions.

    Args:
        finals: float [steps, positions, hidden], of the head, normed.
        weights: float32 [steps, positions].
        hidden: [positions, hidden] of the trunk, normed.
        output: the head's output matrix: [draft vocabulary, hidden]; products run in its type. It
            gets no gradient.
        trunk_output: the rows of the trunk's output matrix for the same tokens, of the same shape
            and type.

    Returns:
        The loss, and detached the mean KL of each step over its positions with a weight: float32
        [steps].
    """
    loss, per_step = _DistillationLoss.apply(finals, weights, hidden, output, trunk_output)
    counts = (weights > 0).sum(1).clamp(min=1)
    return loss, per_step / counts


class _DistillationLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        finals: Tensor,
        weights: Tensor,
        hidden: Tensor,
        output: Tensor,
        trunk_output: Tensor,
    ) -> tuple[Tensor, Tensor]:
        steps, positions, _ = finals.shape
        states = finals.detach().to(output.dtype)
        teacher = hidden.to(output.dtype)
        gradient = torch.empty_like(states)
        loss = torch.zeros((), device=finals.device)
        per_step = torch.zeros(steps, device=finals.device)
        rows = positions_at_a_time(output.shape[0])
        for start in range(0, positions, rows):
            part = slice(start, start + rows)
            log_trunk = torch.log_softmax((teacher[part] @ trunk_output.T).float(), -1)
            trunk = log_trunk.exp()
            negative_entropy = torch.linalg.vecdot(trunk, log_trunk)
            for step in range(steps):
                weight = weights[step, part]
                log_head = torch.log_softmax((states[step, part] @ output.T).float(), -1)
                divergence = negative_entropy - torch.linalg.vecdot(trunk, log_head)
                head = log_head.exp_()
                overlap = torch.minimum(head, trunk).sum(-1)
                share = torch.exp(-_TURN * overlap)
                loss += weight @ (share * divergence + (1 - share) * (1 - overlap))
                per_step[step] += (divergence * (weight > 0)).sum()
                # Of the overlap: what tokens gain to which the head gives too little is taken from
                # all, as the probabilities sum to one.
                gains = head * (head < trunk)
                gains -= head * gains.sum(-1, keepdim=True)
                difference = head.sub_(trunk).mul_(share[:, None])
                difference.sub_(gains.mul_((1 - share)[:, None]))
                difference = difference.to(output.dtype)
                gradient[step, part] = (difference @ output) * weight[:, None]
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(per_step)
        return loss, per_step

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient.float() * gradients[0], None, None, None, None
