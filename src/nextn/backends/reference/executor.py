"""Runs a plan operation by operation, in NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nextn.backends.base import BLOCK_TOKENS, Observed, Rows, check_rows
from nextn.backends.drafting import Chains, Drafted, check_chains
from nextn.backends.reference import operations as ops
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
    StoreHidden,
    Value,
    Weight,
)
from nextn.sampling.reference import choose_draft

Array = NDArray[np.float32]


class ReferenceExecutor:
    """See `nextn.backends.base.Executor`. Weights are decoded to float32 when first used."""

    backend = "reference"
    threads = 1

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: Plan,
        *,
        head: Plan | None = None,
        context_length: int,
        block_count: int,
        max_rows: int,
    ) -> None:
        self.vocab_size = plan.vocab_size
        self.max_rows = max_rows
        self.block_count = block_count
        self.context_length = context_length
        self._checkpoint = checkpoint
        self._plan = plan
        self._weights: dict[str, Array] = {}
        self._observed: dict[str, Observed] = {}
        self._head = head
        self.has_head = head is not None
        cached = plan if head is None else head
        shapes = [(block_count, BLOCK_TOKENS, *layer) for layer in cached.cache_layers]
        self._keys = [np.zeros(shape, np.float32) for shape in shapes]
        self._values = [np.zeros(shape, np.float32) for shape in shapes]
        self._hidden = [
            np.zeros((block_count, BLOCK_TOKENS, width), np.float32)
            for width in cached.hidden_layers
        ]

    def step(self, rows: Rows) -> Array:
        """See `Executor.step`."""
        check_rows(rows, self)
        return self._run_plan(self._plan, rows)

    def draft(self, rows: Rows, chains: Chains) -> Drafted:
        """See `Executor.draft`."""
        if self._head is None:
            raise ValueError("[draft] the executor has no head")
        check_rows(rows, self)
        check_chains(rows, chains, block_count=self.block_count)
        drafted = Drafted.empty(chains)
        token_ids = None if self._head.token_ids is None else np.array(self._head.token_ids)
        going = np.arange(len(chains.depths))  # chains that want another token
        for depth in range(1 + drafted.tokens.shape[1]):
            logits = self._run_plan(self._head, rows)
            wanted = np.flatnonzero(rows.wants_logits)
            next_rows: list[tuple[int, int]] = []  # (row that ended, chain)
            for row, chain, values in zip(wanted, going, logits, strict=True):
                index, probability = choose_draft(
                    values,
                    token_ids,
                    int(rows.positions[row]) + 1,
                    temperature=float(chains.temperature[chain]),
                    top_k=int(chains.top_k[chain]),
                    top_p=float(chains.top_p[chain]),
                    min_p=float(chains.min_p[chain]),
                    seed=int(chains.seeds[chain]),
                )
                if index < 0:
                    continue  # a head that computes NaN drafts nothing
                token = index if token_ids is None else int(token_ids[index])
                table = chains.chances[chain]
                chance = table[
                    min(depth, len(table) - 1),
                    min(int(np.float32(probability) * table.shape[1]), table.shape[1] - 1),
                ]
                drafted.tokens[chain, depth] = token
                drafted.probabilities[chain, depth] = probability
                drafted.chances[chain, depth] = chance
                drafted.counts[chain] = depth + 1
                product = np.prod(drafted.chances[chain, : depth + 1], dtype=np.float64)
                if depth + 1 < chains.depths[chain] and product >= chains.least[chain]:
                    next_rows.append((int(row), int(chain)))
            if not next_rows:
                break
            ended = np.array([row for row, _ in next_rows])
            going = np.array([chain for _, chain in next_rows])
            rows = Rows(
                drafted.tokens[going, depth],
                rows.positions[ended] + 1,
                rows.slots[ended],
                np.ones(len(ended), np.bool_),
                rows.block_tables,
            )
        return drafted

    def _run_plan(self, plan: Plan, rows: Rows) -> Array:
        live: dict[int, Array] = {}
        logits: Array = np.empty((0, plan.vocab_size), np.float32)
        for operation in plan.operations:
            if isinstance(operation, Logits):
                x = live[operation.x.index][rows.wants_logits]
                normed = self._norm(x, operation.norm)
                matrix = self._weight(operation.weight)
                if operation.rows is not None:
                    matrix = matrix[np.array(operation.rows)]
                # In this order BLAS is fastest for a matrix that is much larger than the rows.
                logits = np.ascontiguousarray((matrix @ normed.T).T)
                logits *= self._scale(operation.weight)
            else:
                self._run(operation, rows, live)
        return logits

    def read_hidden(self, layer: int, blocks: NDArray[np.int32]) -> NDArray[np.uint16]:
        """See `Executor.read_hidden`."""
        states = self._hidden[layer][blocks]
        return (states.view(np.uint32) >> 16).astype(np.uint16)

    def read_observed(self) -> dict[str, Observed]:
        """See `Executor.read_observed`."""
        return {name: Observed(seen.sums, seen.rows) for name, seen in self._observed.items()}

    def write_hidden(self, layer: int, blocks: NDArray[np.int32], states: Array) -> None:
        """Put hidden states into cache blocks, as if the trunk had computed them.

        Args:
            layer: of hidden states.
            blocks: int32 [blocks], ids of cache blocks.
            states: float32 [blocks, BLOCK_TOKENS, width].
        """
        self._hidden[layer][blocks] = states

    def head_logits(self, rows: Rows) -> Array:
        """Run the head over rows whose tokens and hidden states before them are known.

        Args:
            rows: as of a step; the trunk must have computed all positions before each row's.

        Returns:
            float32 [rows that want logits, tokens that the head can draft].

        Raises:
            ValueError: there is no head, or the rows break the rules (a defect of the caller).
        """
        if self._head is None:
            raise ValueError("[head logits] the executor has no head")
        check_rows(rows, self)
        return self._run_plan(self._head, rows)

    def weight(self, name: str) -> Array:
        """The values of a weight, as they are used now: float32, of the tensor's shape."""
        if name not in self._weights:
            self._weights[name] = self._checkpoint.tensors[name].decode()
        return self._weights[name]

    def replace_weight(self, name: str, values: Array) -> None:
        """Use other values for a weight, of the same shape, from now on: for experiments."""
        if values.shape != self._checkpoint.tensors[name].shape:
            raise ValueError(f"[reference] {name} has another shape than {list(values.shape)}")
        self._weights[name] = values

    def close(self) -> None:
        """Forget the decoded weights."""
        self._weights.clear()

    def _run(self, operation: Operation, rows: Rows, live: dict[int, Array]) -> None:
        def read(value: Value) -> Array:
            return live[value.index]

        match operation:
            case Embed(out, table, scale):
                embedded = self._checkpoint.tensors[table.name].decode_rows(rows.tokens)
                live[out.index] = embedded * (np.float32(scale) * self._scale(table))
            case Norm(out, x, norm, residual):
                normed = self._norm(read(x), norm)
                live[out.index] = normed if residual is None else normed + read(residual)
            case HeadNorm(out, x, norm, heads):
                parts = read(x).reshape(len(rows.tokens), heads, -1)
                live[out.index] = self._norm(parts, norm).reshape(len(rows.tokens), -1)
            case Linear():
                self._linear(operation, live)
            case Activate(out, gate, up, kind):
                live[out.index] = ops.activation(read(gate), kind) * read(up)
            case Add(out, a, b):
                live[out.index] = read(a) + read(b)
            case Rope(out, x, heads, rotary):
                parts = read(x).reshape(len(rows.tokens), heads, -1)
                turned = ops.rope(parts, rows.positions, rotary)
                live[out.index] = turned.reshape(len(rows.tokens), -1)
            case Attend():
                self._attend(operation, rows, live)
            case Concat(out, a, b):
                live[out.index] = np.concatenate((read(a), read(b)), axis=1)
            case StoreHidden(x, layer, only_wanted):
                stored = rows.wants_logits if only_wanted else np.ones_like(rows.wants_logits)
                blocks, offsets = _places(rows, rows.positions)
                self._hidden[layer][blocks[stored], offsets[stored]] = ops.round_to_bfloat16(
                    read(x)[stored]
                )
            case Observe(x, names, norm):
                squares = np.square(self._norm(read(x), norm), dtype=np.float64).sum(axis=0)
                for name in names:
                    seen = self._observed.setdefault(name, Observed(np.zeros(x.width), 0))
                    seen.add(squares, len(rows.tokens))
            case LoadHidden(out, layer):
                blocks, offsets = _places(rows, np.maximum(rows.positions - 1, 0))
                loaded = self._hidden[layer][blocks, offsets]
                live[out.index] = np.where(rows.positions[:, None] > 0, loaded, np.float32(0))

    def _linear(self, operation: Linear, live: dict[int, Array]) -> None:
        x = self._norm(live[operation.x.index], operation.norm)
        products = [
            ops.linear(x, self._weight(weight), self._vector(bias), self._scale(weight))
            for weight, bias in zip(operation.weights, operation.biases, strict=True)
        ]
        if operation.activation is not None:
            gate, up = products
            products = [ops.activation(gate, operation.activation) * up]
        if operation.residual is not None:
            products = [products[0] + live[operation.residual.index]]
        for out, product in zip(operation.outs, products, strict=True):
            live[out.index] = product

    def _attend(self, op: Attend, rows: Rows, live: dict[int, Array]) -> None:
        count = len(rows.tokens)
        query = live[op.query.index].reshape(count, op.heads, op.head_width)
        key = live[op.key.index].reshape(count, op.kv_heads, op.head_width)
        value = live[op.value.index].reshape(count, op.kv_heads, op.head_width)
        query, key = self._norm(query, op.query_norm), self._norm(key, op.key_norm)
        if op.rotary is not None:
            query = ops.rope(query, rows.positions, op.rotary)
            key = ops.rope(key, rows.positions, op.rotary)
        blocks, offsets = _places(rows, rows.positions)
        self._keys[op.layer][blocks, offsets] = key
        self._values[op.layer][blocks, offsets] = value
        out = np.empty((count, op.heads, op.head_width), np.float32)
        for slot in np.unique(rows.slots):
            mine = np.flatnonzero(rows.slots == slot)
            length = int(rows.positions[mine[-1]]) + 1
            table = rows.block_tables[slot, : -(-length // BLOCK_TOKENS)]
            out[mine] = ops.attend(
                query[mine],
                self._cached(self._keys[op.layer], table, length),
                self._cached(self._values[op.layer], table, length),
                position=int(rows.positions[mine[0]]),
                scale=op.scale,
                window=op.window,
            )
        live[op.out.index] = out.reshape(count, -1)

    @staticmethod
    def _cached(storage: Array, table: NDArray[np.int32], length: int) -> Array:
        return storage[table].reshape(-1, *storage.shape[2:])[:length]

    def _norm(self, x: Array, norm: NormWeight | None) -> Array:
        if norm is None:
            return x
        return ops.rms_norm(x, self._weight(norm.weight), norm.epsilon)

    def _vector(self, weight: Weight | None) -> Array | None:
        return None if weight is None else self._weight(weight)

    def _scale(self, weight: Weight) -> np.float32:
        """What a matrix is multiplied by as a whole."""
        return np.float32(1) if weight.scale is None else self._weight(weight.scale)[0]

    def _weight(self, weight: Weight) -> Array:
        return self.weight(weight.name)


def _places(
    rows: Rows, positions: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cache block, and offset in it, of one position of each row's sequence."""
    return rows.block_tables[rows.slots, positions // BLOCK_TOKENS], positions % BLOCK_TOKENS
