"""The head run on its own hidden states, step after step, as a chain of drafts runs it.

Step 1 is the row that a chain begins with: the trunk's hidden state and the true token. Step k
takes the hidden state that step k - 1 left at the position before, and the true token, as if all
drafts had been accepted ("training-time test" of EAGLE-3, Li et al., 2025; recursion of FastMTP,
Cai et al., 2025). All chains of a sequence, one from each position, are computed at once.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nextn.backends.torch.model import TorchModel
from nextn.backends.torch.operations import attend, causal_mask
from nextn.plan import Attend


def run_chains(model: TorchModel, tokens: Tensor, hidden: Tensor, depth: int) -> list[Tensor]:
    """Run `depth` steps of every chain.

    Args:
        model: the head.
        tokens: int64 [batch, time].
        hidden: float [batch, time, hidden], the trunk's state at each position.
        depth: steps.

    Returns:
        For each step k = 1, 2 ...: what the output matrix is multiplied by, float [batch, time,
        hidden]. Column q is the k-th step of the chain that began at q - k + 1, and predicts token
        q + 1. Columns before k - 1 belong to no chain and mean nothing.
    """
    attention = ChainAttention()
    fed = _one_later(hidden)
    finals = []
    for _ in range(depth):
        outcome = model.run(tokens, hidden=fed, attention=attention)
        if outcome.hidden is None:
            raise ValueError("[train] the head's plan keeps no hidden state")
        finals.append(outcome.final)
        fed = _one_later(outcome.hidden)
    return finals


class ChainAttention:
    """Attention of the steps of all chains; call it once per step and layer.

    At step k the query at position q sees the entries of step 1 at the positions up to q - k + 1,
    and its own chain: for j = 2 ... k the entry of step j at position q - k + j.
    """

    def __init__(self) -> None:
        self._entries: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, op: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `nextn.backends.torch.model.Attention`."""
        entries = self._entries.setdefault(op.layer, [])
        entries.append((key, value))
        if len(entries) == 1:
            return attend(query, key, value, scale=op.scale, window=op.window)
        return _attend_chain(op, query, entries)


def _attend_chain(op: Attend, query: Tensor, entries: list[tuple[Tensor, Tensor]]) -> Tensor:
    (keys, values), *chain = entries
    step, length = len(entries), query.shape[1]
    group = op.heads // op.kv_heads
    # [batch, kv_heads, group, time, width]
    query = query.unflatten(2, (op.kv_heads, group)).permute(0, 2, 3, 1, 4) * op.scale
    keys, values = keys.transpose(1, 2)[:, :, None], values.transpose(1, 2)[:, :, None]
    scores = torch.matmul(query, keys.transpose(-1, -2))
    seen = causal_mask(length, op.window, query.device)
    # Positions up to q - (step - 1) only.
    seen = seen & torch.ones_like(seen).tril(1 - step)
    scores = scores.masked_fill(~seen, float("-inf"))
    # Beside each query, the entries of its own chain: [batch, kv_heads, 1, time, width].
    own = [
        tuple(_later(x, step - j).transpose(1, 2)[:, :, None] for x in entry)
        for j, entry in enumerate(chain, start=2)
        if op.window is None or step - j < op.window
    ]
    own_scores = [(query * key).sum(-1, keepdim=True) for key, _ in own]
    weights = torch.cat((scores, *(each.to(scores.dtype) for each in own_scores)), -1)
    weights = weights.softmax(-1)
    attended = torch.matmul(weights[..., :length], values)
    for index, (_, value) in enumerate(own):
        attended = attended + weights[..., length + index, None] * value
    return attended.permute(0, 3, 1, 2, 4).flatten(2, 3)


def _one_later(x: Tensor) -> Tensor:
    return _later(x, 1)


def _later(x: Tensor, positions: int) -> Tensor:
    """Move x [batch, time, ...] to later positions; zeros come first."""
    if not positions:
        return x
    pad = (0, 0) * (x.dim() - 2) + (positions, 0)
    return functional.pad(x[:, :-positions], pad)
