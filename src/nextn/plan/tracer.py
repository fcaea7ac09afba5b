"""The tracer: a model family calls its methods in order, and it writes down the plan."""

from __future__ import annotations

from nextn.plan.operations import (
    Activate,
    Activation,
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
    Rotary,
    StoreHidden,
    Value,
    Weight,
    weights_of,
)


class Tracer:
    """Records one step of a model as a list of operations.

    Each method returns the value that its operation computes. A width that does not fit is a
    defect of the family's description and raises `ValueError`.

    Args:
        after: the plan of the trunk whose cache this step shares: its layers come first.
    """

    def __init__(self, after: Plan | None = None) -> None:
        self._operations: list[Operation] = []
        self._cache_layers = [] if after is None else list(after.cache_layers)
        self._hidden_layers = [] if after is None else list(after.hidden_layers)
        self._values = 0
        self._vocab_size = 0
        self._token_ids: tuple[int, ...] | None = None

    def embed(self, table: Weight, *, scale: float = 1.0) -> Value:
        """Look up the row's token in `table` [vocabulary, width]."""
        out = self._value(table.columns)
        self._operations.append(Embed(out, table, scale))
        return out

    def norm(self, x: Value, norm: NormWeight) -> Value:
        """Root-mean-square norm over the whole width."""
        _expect("norm", norm.weight.columns, x.width)
        out = self._value(x.width)
        self._operations.append(Norm(out, x, norm))
        return out

    def head_norm(self, x: Value, norm: NormWeight, *, heads: int) -> Value:
        """Root-mean-square norm of each head by itself."""
        _expect("head_norm", norm.weight.columns * heads, x.width)
        out = self._value(x.width)
        self._operations.append(HeadNorm(out, x, norm, heads))
        return out

    def linear(self, x: Value, weight: Weight, bias: Weight | None = None) -> Value:
        """Matrix product: `weight` [rows, columns] times each row of x."""
        _expect("linear", weight.columns, x.width)
        out = self._value(weight.rows)
        self._operations.append(Linear((out,), x, (weight,), (bias,)))
        return out

    def activate(self, gate: Value, up: Value, activation: Activation) -> Value:
        """Gated activation (Shazeer, 2020): activation(gate) * up."""
        _expect("activate", gate.width, up.width)
        out = self._value(gate.width)
        self._operations.append(Activate(out, gate, up, activation))
        return out

    def add(self, a: Value, b: Value) -> Value:
        """Sum of two values."""
        _expect("add", a.width, b.width)
        out = self._value(a.width)
        self._operations.append(Add(out, a, b))
        return out

    def rope(self, x: Value, rotary: Rotary, *, heads: int) -> Value:
        """Rotary position embedding of each head."""
        if x.width % heads or 2 * len(rotary.frequencies) > x.width // heads:
            raise ValueError(f"[rope] {heads} heads of width {x.width} do not fit the frequencies")
        out = self._value(x.width)
        self._operations.append(Rope(out, x, heads, rotary))
        return out

    def attend(
        self,
        query: Value,
        key: Value,
        value: Value,
        *,
        heads: int,
        kv_heads: int,
        head_width: int,
        scale: float,
        window: int | None = None,
    ) -> Value:
        """Causal attention through a new layer of the key/value cache."""
        _expect("attend", heads * head_width, query.width)
        _expect("attend", kv_heads * head_width, key.width)
        _expect("attend", kv_heads * head_width, value.width)
        if heads % kv_heads:
            raise ValueError(f"[attend] {heads} heads do not divide into {kv_heads} groups")
        out = self._value(query.width)
        layer = len(self._cache_layers)
        self._cache_layers.append((kv_heads, head_width))
        self._operations.append(
            Attend(out, query, key, value, layer, heads, kv_heads, head_width, scale, window)
        )
        return out

    def concat(self, a: Value, b: Value) -> Value:
        """The two values, one behind the other."""
        out = self._value(a.width + b.width)
        self._operations.append(Concat(out, a, b))
        return out

    def hidden_layer(self, width: int) -> int:
        """Add a layer of hidden states to the cache; returns its number."""
        self._hidden_layers.append(width)
        return len(self._hidden_layers) - 1

    def store_hidden(self, x: Value, layer: int, *, only_wanted: bool = False) -> None:
        """Keep x as the hidden state of each row's position, or only of rows that want logits."""
        _expect("store_hidden", self._hidden_layers[layer], x.width)
        self._operations.append(StoreHidden(x, layer, only_wanted))

    def load_hidden(self, layer: int) -> Value:
        """The hidden state that was kept for the position before each row's."""
        out = self._value(self._hidden_layers[layer])
        self._operations.append(LoadHidden(out, layer))
        return out

    def logits(self, x: Value, weight: Weight, token_ids: tuple[int, ...] | None = None) -> None:
        """The result of the step; the last call.

        Args:
            x: the final state.
            weight: the output matrix: of one row per token, or per token of `token_ids`.
            token_ids: the tokens that logits are wanted for, ascending; None for all.
        """
        _expect("logits", weight.columns, x.width)
        rows = None if token_ids is None or len(token_ids) == weight.rows else token_ids
        self._vocab_size = weight.rows if rows is None else len(rows)
        self._token_ids = token_ids
        self._operations.append(Logits(x, weight, rows=rows))

    def plan(self) -> Plan:
        """The finished plan, not yet fused."""
        weights = {w.name: w for op in self._operations for w in weights_of(op)}
        return Plan(
            tuple(self._operations),
            tuple(self._cache_layers),
            self._vocab_size,
            tuple(weights.values()),
            tuple(self._hidden_layers),
            self._token_ids,
        )

    def _value(self, width: int) -> Value:
        value = Value(self._values, width)
        self._values += 1
        return value


def _expect(operation: str, expected: int, got: int) -> None:
    if expected != got:
        raise ValueError(f"[{operation}] expected a width of {expected}, got {got}")
