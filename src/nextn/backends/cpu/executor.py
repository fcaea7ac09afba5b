"""Builds the native executor from a plan and a checkpoint, and steps it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn import _native
from nextn.backends.base import BLOCK_TOKENS, Observed, Rows
from nextn.backends.cpu.threads import check_threads, default_threads
from nextn.backends.drafting import Chains, Drafted
from nextn.errors import UnsupportedModelError
from nextn.files import Checkpoint
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
    Observe,
    Operation,
    Plan,
    Rope,
    Rotary,
    StoreHidden,
    Value,
    Weight,
    assign_buffers,
)

_ACTIVATIONS = {None: 0, "silu": 1, "gelu": 2}
_ABSENT = -1
_LANES = 16
_MOST_HEAD_WIDTH = 512
_CACHE_SCALE_ELEMENTS = 32
_MOST_WIDTH = 1 << 28
_MOST_QUERIES_PER_KEY = 16

if _native.CACHE_BLOCK_TOKENS != BLOCK_TOKENS:
    raise ImportError("nextn._native was built for another size of cache blocks; reinstall nextn")


class CpuExecutor:
    """See `nextn.backends.base.Executor`; the rows of a step are invariant bit for bit.

    Weights are repacked once, and the pages of the file are given back on the way, so that the
    memory in use stays near the size of the file. The embedding table is read from the file.
    """

    backend = "cpu"

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: Plan,
        *,
        head: Plan | None = None,
        threads: int | None = None,
        context_length: int,
        block_count: int,
        max_rows: int,
        cache_type: str = "f16",
        kernels: str | None = None,
    ) -> None:
        """Load the weights.

        Args:
            checkpoint: the model, with the tensors of its head; must stay open as long as the
                executor lives.
            plan: its fused plan.
            head: the fused plan of a head over the same cache, if there is one.
            threads: threads that compute; None chooses.
            context_length: most positions of a sequence.
            block_count: blocks of the key/value cache.
            max_rows: most rows of one step.
            cache_type: how keys and values are kept, one of `CACHE_TYPES`.
            kernels: one of `nextn._native.available_kernels()`; None takes the best.

        Raises:
            RequestError: an impossible number of threads.
            UnsupportedModelError: heads of a shape that the kernels are not made for.
        """
        self.threads = default_threads() if threads is None else check_threads(threads)
        self.kernels = kernels or _native.available_kernels()[0]
        self.vocab_size = plan.vocab_size
        self.max_rows = max_rows
        self.block_count = block_count
        self.context_length = context_length
        self.has_head = head is not None
        self._checkpoint = checkpoint
        plans = [plan] if head is None else [plan, head]
        for each in plans:
            _check_shapes(checkpoint, each, cache_type)
        self._native = _native.Executor(
            self.threads, max_rows, block_count, self.kernels, cache_type
        )
        self._matrices: dict[tuple[str, tuple[int, ...] | None], int] = {}
        self._vectors: dict[str, int] = {}
        self._rotaries: dict[Rotary, int] = {}
        self._observers: list[tuple[int, Observe]] = []
        self._packed = {
            op.weight.name
            for each in plans
            for op in each.operations
            if isinstance(op, Logits) and op.rows is None
        }
        for kv_heads, head_width in plans[-1].cache_layers:
            self._native.add_cache_layer(kv_heads, head_width)
        self._hidden_widths = plans[-1].hidden_layers
        for width in self._hidden_widths:
            self._native.add_hidden_layer(width)
        self._buffers: list[tuple[int, int]] = []  # (width, number)
        self._build(plan)
        if head is not None:
            ids = None if head.token_ids is None else np.array(head.token_ids, np.int32)
            self._native.begin_head(head.vocab_size, ids)
            self._build(head)
        self._native.finish()

    def step(self, rows: Rows) -> NDArray[np.float32]:
        """See `Executor.step`."""
        return self._native.step(
            rows.tokens,
            rows.positions,
            rows.slots,
            rows.wants_logits,
            rows.block_tables,
            self.vocab_size,
        )

    def draft(self, rows: Rows, chains: Chains) -> Drafted:
        """See `Executor.draft`."""
        if not self.has_head:
            raise ValueError("[draft] the executor has no head")
        drafted = Drafted.empty(chains)
        self._native.draft(
            rows.tokens,
            rows.positions,
            rows.slots,
            rows.wants_logits,
            rows.block_tables,
            self.vocab_size,
            chains.depths,
            chains.temperature,
            chains.top_k,
            chains.top_p,
            chains.min_p,
            chains.seeds,
            chains.least,
            chains.chances,
            drafted.tokens,
            drafted.chances,
            drafted.probabilities,
            drafted.counts,
        )
        return drafted

    def read_hidden(self, layer: int, blocks: NDArray[np.int32]) -> NDArray[np.uint16]:
        """See `Executor.read_hidden`."""
        width = self._hidden_widths[layer]
        states = np.empty((len(blocks), BLOCK_TOKENS, width), np.uint16)
        self._native.read_hidden(layer, np.ascontiguousarray(blocks, np.int32), states)
        return states

    def close(self) -> None:
        """Give back the memory and the threads; the executor cannot be used afterwards."""
        vars(self).pop("_native", None)

    def read_observed(self) -> dict[str, Observed]:
        """See `Executor.read_observed`; the sums are the same for any number of threads."""
        observed: dict[str, Observed] = {}
        for number, operation in self._observers:
            sums = np.empty(operation.x.width, np.float64)
            rows = self._native.read_observed(number, sums)
            for name in operation.names:
                observed.setdefault(name, Observed(np.zeros(len(sums)), 0)).add(sums, rows)
        return observed

    def _build(self, plan: Plan) -> None:
        """Add the operations of trunk or head, which use the same buffers."""
        # Products of an activation are small but for a few that are huge. Quantised with one scale
        # per 32 columns, they cause half of the divergence from exact arithmetic; so they get one
        # per 16, which takes more time.
        self._activated: set[Value] = set()
        buffers = assign_buffers(plan)
        free = self._buffers.copy()
        numbers = []
        for width in buffers.widths:
            found = next((buffer for buffer in free if buffer[0] == width), None)
            if found is None:
                found = width, self._native.add_buffer(width)
                self._buffers.append(found)
            else:
                free.remove(found)
            numbers.append(found[1])
        self._buffer_of = {value: numbers[b] for value, b in buffers.buffer_of.items()}
        for operation in plan.operations:
            self._add(operation)

    def _add(self, operation: Operation) -> None:
        native, buffer = self._native, self._buffer
        match operation:
            case Embed(out, table, scale):
                tensor = self._checkpoint.tensors[table.name]
                # As the output matrix it is checked when it is packed.
                if table.name not in self._packed:
                    tensor.check_finite()
                native.embed(
                    buffer(out),
                    tensor.block_type.id,
                    table.rows,
                    table.columns,
                    tensor.data,
                    float(np.float32(scale) * np.float32(self._scale(table))),
                )
            case Norm(out, x, norm, residual):
                native.norm(buffer(out), buffer(x), *self._norm(norm), buffer(residual))
            case HeadNorm(out, x, norm, heads):
                native.head_norm(buffer(out), buffer(x), *self._norm(norm), heads)
            case Linear():
                native.linear(
                    [buffer(out) for out in operation.outs],
                    buffer(operation.x),
                    [self._matrix(weight) for weight in operation.weights],
                    [self._scale(weight) for weight in operation.weights],
                    [self._vector(bias) for bias in operation.biases],
                    *self._norm(operation.norm),
                    operation.x in self._activated,
                    _ACTIVATIONS[operation.activation],
                    buffer(operation.residual),
                )
                if operation.activation is not None:
                    self._activated.update(operation.outs)
            case Activate(out, gate, up, activation):
                native.activate(buffer(out), buffer(gate), buffer(up), _ACTIVATIONS[activation])
                self._activated.add(out)
            case Add(out, a, b):
                native.add(buffer(out), buffer(a), buffer(b))
            case Rope(out, x, heads, rotary):
                native.rope(buffer(out), buffer(x), self._rotary(rotary), heads)
            case Attend():
                self._add_attend(operation)
            case Concat(out, a, b):
                native.concat(buffer(out), buffer(a), buffer(b))
            case StoreHidden(x, layer, only_wanted):
                native.store_hidden(buffer(x), layer, only_wanted)
            case Observe(x, _, norm):
                number = native.observe(buffer(x), *self._norm(norm))
                self._observers.append((number, operation))
            case LoadHidden(out, layer):
                native.load_hidden(buffer(out), layer)
            case Logits(x, weight, norm, rows):
                native.logits(
                    buffer(x), self._matrix(weight, rows), self._scale(weight), *self._norm(norm)
                )

    def _add_attend(self, op: Attend) -> None:
        query_norm, epsilon = self._norm(op.query_norm)
        key_norm, _ = self._norm(op.key_norm)
        self._native.attend(
            self._buffer(op.out),
            self._buffer(op.query),
            self._buffer(op.key),
            self._buffer(op.value),
            op.layer,
            op.heads,
            op.scale,
            op.window or 0,
            query_norm,
            key_norm,
            epsilon,
            _ABSENT if op.rotary is None else self._rotary(op.rotary),
        )

    def _buffer(self, value: Value | None) -> int:
        return _ABSENT if value is None else self._buffer_of[value.index]

    def _norm(self, norm: NormWeight | None) -> tuple[int, float]:
        return (_ABSENT, 0.0) if norm is None else (self._vector(norm.weight), norm.epsilon)

    def _matrix(self, weight: Weight, rows: tuple[int, ...] | None = None) -> int:
        """A packed matrix, or only some rows of one."""
        key = weight.name, rows
        if key not in self._matrices:
            tensor = self._checkpoint.tensors[weight.name]
            data, mapped, count = tensor.data, tensor.mapped, weight.rows
            if rows is not None:
                data = data.reshape(weight.rows, -1)[np.array(rows)].reshape(-1)
                mapped, count = False, len(rows)
            try:
                self._matrices[key] = self._native.add_matrix(
                    tensor.block_type.id, count, weight.columns, data, mapped
                )
            except ValueError:
                tensor.check_finite()  # says where it is
                raise
        return self._matrices[key]

    def _scale(self, weight: Weight) -> float:
        """What a matrix is multiplied by as a whole."""
        if weight.scale is None:
            return 1.0
        return float(self._checkpoint.tensors[weight.scale.name].decode()[0])

    def _vector(self, weight: Weight | None) -> int:
        if weight is None:
            return _ABSENT
        if weight.name not in self._vectors:
            self._checkpoint.tensors[weight.name].check_finite()
            values = self._checkpoint.tensors[weight.name].decode().reshape(-1)
            self._vectors[weight.name] = self._native.add_vector(values)
        return self._vectors[weight.name]

    def _rotary(self, rotary: Rotary) -> int:
        if rotary not in self._rotaries:
            frequencies = np.asarray(rotary.frequencies, np.float64)
            self._rotaries[rotary] = self._native.add_rotary(
                frequencies, rotary.interleaved, rotary.magnitude
            )
        return self._rotaries[rotary]


def _check_shapes(checkpoint: Checkpoint, plan: Plan, cache_type: str) -> None:
    for weight in plan.weights:
        if max(weight.rows, weight.columns) >= _MOST_WIDTH:
            raise UnsupportedModelError(
                f"{checkpoint.path}: tensor {weight.name}: {weight.rows} rows of {weight.columns} "
                f"are not supported by the cpu executor; it takes fewer than {_MOST_WIDTH} of both"
            )
    for op in plan.operations:
        if not isinstance(op, Attend):
            continue
        if op.head_width % _LANES or op.head_width > _MOST_HEAD_WIDTH:
            raise UnsupportedModelError(
                f"{checkpoint.path}: a head width of {op.head_width} is not supported by the cpu "
                f"executor; it takes multiples of {_LANES} up to {_MOST_HEAD_WIDTH}"
            )
        if cache_type == "q8_0" and op.head_width % _CACHE_SCALE_ELEMENTS:
            raise UnsupportedModelError(
                f"{checkpoint.path}: a q8_0 cache needs a head width that is a multiple of "
                f"{_CACHE_SCALE_ELEMENTS}, not {op.head_width}; take cache_type f16"
            )
        if op.heads // op.kv_heads > _MOST_QUERIES_PER_KEY:
            raise UnsupportedModelError(
                f"{checkpoint.path}: {op.heads} heads over {op.kv_heads} key heads are not "
                f"supported by the cpu executor; at most {_MOST_QUERIES_PER_KEY} to one"
            )
