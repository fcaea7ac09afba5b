"""Runs a plan over whole sequences, teacher-forced, with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nextn.backends.torch import operations as ops
from nextn.plan import (
    Activate,
    Add,
    Attend,
    Concat,
    Embed,
    HeadNorm,
    Linear,
    LoadHidden,
    Logits,
    Norm,
    NormWeight,
    Operation,
    Plan,
    Rope,
    StoreHidden,
    Value,
    Weight,
)


class Attention(Protocol):
    """How queries meet keys; what `Attend` means once they are normalised and turned."""

    def __call__(self, op: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend.

        Args:
            op: the operation.
            query: [batch, time, heads, head width].
            key: [batch, time, kv_heads, head width].
            value: like `key`.

        Returns:
            [batch, time, heads, head width].
        """


def causal_attention(op: Attend, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every row sees the rows before it, and itself; see `Attention`."""
    return ops.attend(query, key, value, scale=op.scale, window=op.window)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a plan leaves.

    Attributes:
        hidden: what is kept as the hidden state: float [batch, time, hidden]; None if the plan
            keeps none. It is not rounded to bfloat16.
        final: what the output matrix is multiplied by: float [batch, time, hidden].
    """

    hidden: Tensor | None
    final: Tensor


class TorchModel:
    """A plan with its weights.

    Under `torch.autocast` the products run in its type; norms and additions stay in float32.

    Args:
        plan: fused or not.
        weights: by the name of the tensor; where they are is where it runs. What has
            `requires_grad` gets gradients.
    """

    def __init__(self, plan: Plan, weights: Mapping[str, Tensor]) -> None:
        self.plan = plan
        self.weights = weights
        (self._logits,) = (op for op in plan.operations if isinstance(op, Logits))

    def run(
        self,
        tokens: Tensor,
        *,
        hidden: Tensor | None = None,
        attention: Attention = causal_attention,
    ) -> Outcome:
        """Run all but the output matrix.

        Args:
            tokens: int64 [batch, time]; column p is position p of each sequence.
            hidden: float [batch, time, hidden], what `LoadHidden` gives to each row: the hidden
                state of the position before it.
            attention: how queries meet keys.
        """
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return _Run(self, tokens, positions, hidden, attention).outcome()

    def logits(self, final: Tensor) -> Tensor:
        """The product with the output matrix: [..., vocabulary of the plan]."""
        weight = self.output_matrix()
        scale = self._scale(self._logits.weight)
        return ops.linear(final, weight, None, scale)

    def output_matrix(self) -> Tensor:
        """The rows of the output matrix that logits are for: [vocabulary of the plan, hidden]."""
        weight = self.weights[self._logits.weight.name]
        return weight if self._logits.rows is None else weight[list(self._logits.rows)]

    def norm(self, x: Tensor, norm: NormWeight | None) -> Tensor:
        """A root-mean-square norm; None leaves x as it is."""
        if norm is None:
            return x
        return ops.rms_norm(x, self.weights[norm.weight.name], norm.epsilon)

    def _scale(self, weight: Weight) -> Tensor | None:
        return None if weight.scale is None else self.weights[weight.scale.name]


class _Run:
    """One pass over the operations."""

    def __init__(
        self,
        model: TorchModel,
        tokens: Tensor,
        positions: Tensor,
        hidden: Tensor | None,
        attention: Attention,
    ) -> None:
        self._model = model
        self._weights = model.weights
        self._tokens = tokens
        self._positions = positions
        self._hidden = hidden
        self._attention = attention
        self._live: dict[int, Tensor] = {}
        self._stored: Tensor | None = None

    def outcome(self) -> Outcome:
        final: Tensor | None = None
        for operation in self._model.plan.operations:
            if isinstance(operation, Logits):
                final = self._model.norm(self._read(operation.x), operation.norm)
            else:
                self._run(operation)
        if final is None:
            raise ValueError("[torch] a plan without logits")
        return Outcome(self._stored, final)

    def _read(self, value: Value) -> Tensor:
        return self._live[value.index]

    def _run(self, operation: Operation) -> None:
        live, read, norm_of = self._live, self._read, self._model.norm
        match operation:
            case Embed(out, table, scale):
                factor = self._model._scale(table)
                found = self._weights[table.name][self._tokens].float() * scale
                live[out.index] = found if factor is None else found * factor
            case LoadHidden(out, _):
                if self._hidden is None:
                    raise ValueError("[torch] the plan needs hidden states")
                live[out.index] = self._hidden
            case StoreHidden(x, _, _):
                self._stored = read(x)
            case Concat(out, a, b):
                live[out.index] = torch.cat((read(a), read(b)), -1)
            case Norm(out, x, norm, residual):
                normed = norm_of(read(x), norm)
                live[out.index] = normed if residual is None else normed + read(residual)
            case HeadNorm(out, x, norm, heads):
                live[out.index] = norm_of(_split(read(x), heads), norm).flatten(-2)
            case Linear():
                self._linear(operation)
            case Activate(out, gate, up, kind):
                live[out.index] = ops.activation(read(gate), kind) * read(up)
            case Add(out, a, b):
                live[out.index] = read(a) + read(b)
            case Rope(out, x, heads, rotary):
                turned = ops.rope(_split(read(x), heads), self._positions, rotary)
                live[out.index] = turned.flatten(-2)
            case Attend():
                self._attend(operation)

    def _linear(self, op: Linear) -> None:
        x = self._model.norm(self._read(op.x), op.norm)
        products = [
            ops.linear(
                x,
                self._weights[weight.name],
                None if bias is None else self._weights[bias.name],
                self._model._scale(weight),
            )
            for weight, bias in zip(op.weights, op.biases, strict=True)
        ]
        if op.activation is not None:
            gate, up = products
            products = [ops.activation(gate, op.activation) * up]
        if op.residual is not None:
            products = [products[0] + self._read(op.residual)]
        for out, product in zip(op.outs, products, strict=True):
            self._live[out.index] = product

    def _attend(self, op: Attend) -> None:
        query = self._model.norm(_split(self._read(op.query), op.heads), op.query_norm)
        key = self._model.norm(_split(self._read(op.key), op.kv_heads), op.key_norm)
        value = _split(self._read(op.value), op.kv_heads)
        if op.rotary is not None:
            query = ops.rope(query, self._positions, op.rotary)
            key = ops.rope(key, self._positions, op.rotary)
        self._live[op.out.index] = self._attention(op, query, key, value).flatten(-2)


def _split(x: Tensor, heads: int) -> Tensor:
    """[batch, time, heads * width] to [batch, time, heads, width]."""
    return x.unflatten(-1, (heads, -1))
