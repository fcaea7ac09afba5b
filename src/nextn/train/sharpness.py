"""How much sharper a trained head's distribution should be for the drafts of sampled texts.

Draft and trunk choose with the same noise (`nextn.sampling.noise`). With equal distributions they
always agree. But a head knows less than its trunk and spreads what it does not know, and the trunk
is mostly surer: then they agree more often if the head's logits are somewhat larger. They grow with
the weight of the head's last norm. That changes no greedy draft, and no later step of a chain:
what that gets is normed again.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nextn.sampling import SamplingParams
from nextn.train.loss import positions_at_a_time

SCALES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0)
"""What the logits may be multiplied with."""

_TEMPERATURE = 0.8
_DRAWS = 4  # of noise, per position


def count_agreements(
    final: Tensor,
    hidden: Tensor,
    output: Tensor,
    trunk_output: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """How often head and trunk choose the same token at temperature 0.8, by scale.

    Tokens far below the most probable one are left out first, as `min_p` does by default.

    Args:
        final: [positions, hidden], of the head, normed.
        hidden: [positions, hidden] of the trunk, normed.
        output: the head's output matrix: [draft vocabulary, hidden].
        trunk_output: the rows of the trunk's output matrix for the same tokens.
        generator: of the noise; on the processor.

    Returns:
        float64 [scales], mean agreements per position, summed over the positions.
    """
    counts = torch.zeros(len(SCALES), dtype=torch.float64)
    rows = positions_at_a_time(output.shape[0])
    for part, trunk_part in zip(final.split(rows), hidden.split(rows), strict=True):
        head = (part.to(output.dtype) @ output.T).float()
        trunk = _filtered((trunk_part.to(output.dtype) @ trunk_output.T).float())
        draws = []
        for _ in range(_DRAWS):
            noise = torch.empty(head.shape).exponential_(generator=generator).log_().neg_()
            noise = noise.to(head.device)
            draws.append((noise, (trunk + noise).argmax(-1)))
        for index, scale in enumerate(SCALES):
            sharper = _filtered(head * scale)
            for noise, chosen in draws:
                drafted = (sharper + noise).argmax(-1)
                counts[index] += float((drafted == chosen).sum()) / _DRAWS
    return counts


def _filtered(logits: Tensor) -> Tensor:
    """Logits at the temperature, without those that `min_p` drops."""
    threshold = logits.amax(-1, keepdim=True) + math.log(SamplingParams().min_p)
    return logits.masked_fill(logits < threshold, -math.inf) / _TEMPERATURE
