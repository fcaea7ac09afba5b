"""The operations that a plan is made of.

Every value is a float32 array [rows, width], one row per token of the step. Operations are frozen
records; what they compute is defined by `nextn.backends.reference`, one function per operation.
Optional fields such as `Linear.norm` are what `fuse` fills in: a fused operation means exactly what
the separate ones mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Activation: TypeAlias = Literal["silu", "gelu"]
"""`silu` is x * sigmoid(x); `gelu` is the tanh approximation (Hendrycks and Gimpel, 2016)."""


@dataclass(frozen=True, slots=True)
class Value:
    """The result of an operation: float32 [rows, width]."""

    index: int
    width: int


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the checkpoint by name: `rows` outputs by `columns` inputs; vectors: one row.

    `scale` names a vector of one element that multiplies the whole matrix. It is applied to the
    product, since a block format such as NVFP4 cannot hold the numbers that it is there for.
    """

    name: str
    rows: int
    columns: int
    scale: Weight | None = None


@dataclass(frozen=True, slots=True)
class NormWeight:
    """The parameters of a root-mean-square norm (Zhang and Sennrich, 2019): x / rms(x) * weight."""

    weight: Weight
    epsilon: float


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding (Su et al., 2021) over the first 2 * len(frequencies) elements.

    Pair i is turned by position * frequencies[i] radians. `interleaved` pairs elements (2i, 2i+1);
    otherwise (i, i + len(frequencies)). `magnitude` multiplies the turned elements (YaRN).
    """

    frequencies: tuple[float, ...]
    interleaved: bool
    magnitude: float = 1.0


@dataclass(frozen=True, slots=True)
class Embed:
    """out = table[token] * (scale * the table's own scale)."""

    out: Value
    table: Weight
    scale: float


@dataclass(frozen=True, slots=True)
class Norm:
    """out = rms_norm(x), plus `residual` where given."""

    out: Value
    x: Value
    norm: NormWeight
    residual: Value | None = None


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """out = rms_norm of each of the `heads` equal parts of x, with one shared weight."""

    out: Value
    x: Value
    norm: NormWeight
    heads: int


@dataclass(frozen=True, slots=True)
class Linear:
    """outs[i] = (weights[i] @ x) * scale of weights[i] + biases[i], over a shared input.

    With `norm`, x is normalised first. With `activation`, there are two weights (gate, up) and one
    output: activation(gate's product) * (up's product). With `residual`, there is one output and
    the residual is added to it.
    """

    outs: tuple[Value, ...]
    x: Value
    weights: tuple[Weight, ...]
    biases: tuple[Weight | None, ...]
    norm: NormWeight | None = None
    activation: Activation | None = None
    residual: Value | None = None


@dataclass(frozen=True, slots=True)
class Activate:
    """out = activation(gate) * up."""

    out: Value
    gate: Value
    up: Value
    activation: Activation


@dataclass(frozen=True, slots=True)
class Add:
    """out = a + b."""

    out: Value
    a: Value
    b: Value


@dataclass(frozen=True, slots=True)
class Rope:
    """out = x with each of its `heads` parts turned by the row's position."""

    out: Value
    x: Value
    heads: int
    rotary: Rotary


@dataclass(frozen=True, slots=True)
class Attend:
    """Causal attention of each row over its own sequence, through the key/value cache.

    The row's key and value are stored first, at its position in cache layer `layer`. Query head h
    reads key head h // (heads / kv_heads). With `window`, a row at position p sees the positions
    p - window + 1 .. p. With `query_norm`, `key_norm` and `rotary`, queries and keys are normalised
    per head and turned before that, in this order.
    """

    out: Value
    query: Value
    key: Value
    value: Value
    layer: int
    heads: int
    kv_heads: int
    head_width: int
    scale: float
    window: int | None = None
    query_norm: NormWeight | None = None
    key_norm: NormWeight | None = None
    rotary: Rotary | None = None


@dataclass(frozen=True, slots=True)
class Concat:
    """out = [a, b], one behind the other."""

    out: Value
    a: Value
    b: Value


@dataclass(frozen=True, slots=True)
class StoreHidden:
    """hidden[p] = bfloat16(x), for a row at position p, in hidden layer `layer` of the cache.

    With `only_wanted`, only rows that want logits store. Rounding is to the nearest, ties to even.
    """

    x: Value
    layer: int
    only_wanted: bool


@dataclass(frozen=True, slots=True)
class LoadHidden:
    """out = hidden[p - 1] for a row at position p, and zeros at position 0."""

    out: Value
    layer: int


@dataclass(frozen=True, slots=True)
class Logits:
    """The step's result: (weight @ rms_norm(x)) * its scale, for the rows that want logits.

    With `rows`, only these rows of the matrix, in this order, are multiplied.
    """

    x: Value
    weight: Weight
    norm: NormWeight | None = None
    rows: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Observe:
    """Adds the squares of rms_norm(x) to what was observed of `names`, for every row of the step.

    Executors sum them up in float64 over all steps. Put in by `observe`, for importance matrices.
    """

    x: Value
    names: tuple[str, ...]
    norm: NormWeight | None = None


Operation: TypeAlias = (
    Embed
    | Norm
    | HeadNorm
    | Linear
    | Activate
    | Add
    | Rope
    | Attend
    | Concat
    | StoreHidden
    | LoadHidden
    | Logits
    | Observe
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One step of a model, and what its cache needs.

    A head's plan runs over the cache of its trunk: its lists of layers begin with the trunk's.

    Attributes:
        operations: in the order in which they run.
        cache_layers: (kv_heads, head_width) of each layer of keys and values.
        vocab_size: width of the logits.
        weights: the tensors that it uses.
        hidden_layers: width of each layer of hidden states.
        token_ids: the token that each logit is for, ascending; None if logit i is for token i.
    """

    operations: tuple[Operation, ...]
    cache_layers: tuple[tuple[int, int], ...]
    vocab_size: int
    weights: tuple[Weight, ...] = field(default=())
    hidden_layers: tuple[int, ...] = ()
    token_ids: tuple[int, ...] | None = None


def inputs_of(operation: Operation) -> tuple[Value, ...]:
    """The values that an operation reads, in a fixed order."""
    match operation:
        case Embed() | LoadHidden():
            return ()
        case Norm() | Linear():
            residual = operation.residual
            return (operation.x,) if residual is None else (operation.x, residual)
        case Activate():
            return (operation.gate, operation.up)
        case Add() | Concat():
            return (operation.a, operation.b)
        case Attend():
            return (operation.query, operation.key, operation.value)
        case HeadNorm() | Rope() | StoreHidden() | Logits() | Observe():
            return (operation.x,)


def outputs_of(operation: Operation) -> tuple[Value, ...]:
    """The values that an operation writes."""
    match operation:
        case Linear():
            return operation.outs
        case StoreHidden() | Logits() | Observe():
            return ()
        case _:
            return (operation.out,)


def weights_of(operation: Operation) -> tuple[Weight, ...]:
    """The checkpoint tensors that an operation uses, scales of matrices included."""
    weights = _own_weights_of(operation)
    return (*weights, *(weight.scale for weight in weights if weight.scale is not None))


def _own_weights_of(operation: Operation) -> tuple[Weight, ...]:
    match operation:
        case Embed():
            return (operation.table,)
        case Norm() | HeadNorm():
            return (operation.norm.weight,)
        case Linear():
            biases = tuple(bias for bias in operation.biases if bias is not None)
            norm = () if operation.norm is None else (operation.norm.weight,)
            return (*norm, *operation.weights, *biases)
        case Logits():
            norm = () if operation.norm is None else (operation.norm.weight,)
            return (*norm, operation.weight)
        case Observe():
            return () if operation.norm is None else (operation.norm.weight,)
        case Attend():
            norms = (operation.query_norm, operation.key_norm)
            return tuple(norm.weight for norm in norms if norm is not None)
        case Activate() | Add() | Rope() | Concat() | StoreHidden() | LoadHidden():
            return ()
