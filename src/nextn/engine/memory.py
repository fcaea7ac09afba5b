"""Whether a model fits into memory, asked before it is loaded.

Without this check the system kills the process in the middle of loading, or much worse, swaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nextn.backends.base import BLOCK_TOKENS, CACHE_ELEMENT_BYTES
from nextn.control_groups import control_groups, read_text
from nextn.errors import MemoryLimitError
from nextn.files import Checkpoint
from nextn.plan import Logits, Operation, Plan, assign_buffers

_PACKING = 1.06  # packed weights are padded to whole tiles and 64-byte lines
_FLOAT_BYTES = 4
_HIDDEN_BYTES = 2
_LEAST_CONTEXT = 256  # a smaller one is not worth a suggestion


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a model will use at most.

    Attributes:
        weights: the weights as the executor keeps them.
        cache: keys, values and hidden states of all cache blocks.
        working: logits, and the values of one step.
    """

    weights: int
    cache: int
    working: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.cache + self.working


def memory_need(
    checkpoint: Checkpoint,
    plan: Plan,
    *,
    head: Plan | None = None,
    backend: str,
    block_count: int,
    max_rows: int,
    logits_rows: int,
    cache_type: str = "f16",
) -> MemoryNeed:
    """What a model will use, computed from its header and plan.

    Args:
        checkpoint: the model; with a head, the tensors of both.
        plan: its fused plan.
        head: the fused plan of its head, if it has one.
        backend: the executor's name.
        block_count: blocks of the key/value cache.
        max_rows: most rows of a step.
        logits_rows: most rows of a step that want logits.
        cache_type: how the `cpu` executor keeps keys and values.
    """
    plans = [plan] if head is None else [plan, head]
    used = {weight.name: weight for each in plans for weight in each.weights}
    if backend == "reference":
        weights = sum(weight.rows * weight.columns for weight in used.values()) * _FLOAT_BYTES
    else:
        stored = sum(checkpoint.tensors[name].nbytes for name in used)
        stored += sum(_picked_bytes(checkpoint, op) for each in plans for op in each.operations)
        weights = int(stored * _PACKING)
    elements = sum(2 * kv_heads * head_width for kv_heads, head_width in plans[-1].cache_layers)
    element_bytes = CACHE_ELEMENT_BYTES[cache_type] if backend == "cpu" else _FLOAT_BYTES
    hidden_bytes = _HIDDEN_BYTES if backend == "cpu" else _FLOAT_BYTES
    position = elements * element_bytes + sum(plans[-1].hidden_layers) * hidden_bytes
    cache = int(block_count * BLOCK_TOKENS * position)
    # Trunk and head use the same buffers, as far as their widths are the same.
    buffers: Counter[int] = Counter()
    for each in plans:
        buffers |= Counter(assign_buffers(each).widths)
    values = max_rows * sum(width * count for width, count in buffers.items())
    values += logits_rows * sum(each.vocab_size for each in plans)
    return MemoryNeed(weights, cache, values * _FLOAT_BYTES)


def _picked_bytes(checkpoint: Checkpoint, op: Operation) -> int:
    """Bytes of the rows of an output matrix that are packed as a matrix of their own."""
    if not isinstance(op, Logits) or op.rows is None:
        return 0
    tensor = checkpoint.tensors[op.weight.name]
    return len(op.rows) * tensor.block_type.row_bytes(op.weight.columns)


def check_memory(path: Path, need: MemoryNeed, available: int | None, context: int) -> None:
    """Refuse a model that does not fit.

    Args:
        path: the model file, for the message.
        need: what it will use.
        available: bytes that may be used; None if the system does not say.
        context: positions that `need.cache` was computed for.

    Raises:
        MemoryLimitError: says both numbers, and the context that would fit if one does.
    """
    if available is None or need.total <= available:
        return
    left = available - need.weights - need.working
    fitting = int(context * left / need.cache) // _LEAST_CONTEXT * _LEAST_CONTEXT
    advice = f"load it with context={fitting}" if fitting > 0 else "take a smaller model"
    raise MemoryLimitError(
        f"{path}: needs {_megabytes(need.total)} of memory (weights {_megabytes(need.weights)}, "
        f"cache {_megabytes(need.cache)} for a context of {context}, "
        f"work {_megabytes(need.working)}), but {_megabytes(max(available, 0))} are available; "
        f"{advice}"
    )


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still use: of the machine, and of its control groups.

    Memory of the page cache counts as available, since it is given back when needed.

    Args:
        root: where `proc` and `sys` are.

    Returns:
        None if the system does not say.
    """
    limits = list(_group_limits(root))
    machine = _fields(root / "proc/meminfo").get("MemAvailable:")
    if machine is not None:
        limits.append(machine * 1024)
    return min(limits) if limits else None


_FILES = {
    # version: files of the limit and the usage, and the prefix of the reclaimable memory
    2: ("memory.max", "memory.current", ""),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
}


def _group_limits(root: Path) -> Iterator[int]:
    """What each control group that contains this process leaves."""
    for version, group in control_groups("memory", root):
        limit, usage, prefix = _FILES[version]
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None:
            stat = _fields(group / "memory.stat")
            files = (stat.get(f"{prefix}{kind}_file", 0) for kind in ("inactive", "active"))
            yield most - used + sum(files)


def _fields(path: Path) -> dict[str, int]:
    """Lines of "name number ..."; nothing if there is no such file."""
    pairs = (line.split() for line in read_text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    """The number in a file; None if there is none: no such file, or "max"."""
    text = read_text(path).strip()
    return int(text) if text.isdigit() else None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
