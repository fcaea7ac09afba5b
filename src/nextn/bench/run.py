"""A whole benchmark of a model file: load, measure, give back."""

from __future__ import annotations

from nextn.backends import create_executor
from nextn.bench.limits import Limits, StepCosts, measure_limits
from nextn.bench.measure import Progress, lengths_needed, measure
from nextn.bench.report import ModelLine, Report
from nextn.bench.sequences import blocks_needed
from nextn.bench.settings import Settings
from nextn.engine.memory import available_memory, memory_need
from nextn.errors import MemoryLimitError
from nextn.files import Checkpoint

_MAX_ROWS = 512  # as in `nextn run`


def run_benchmark(
    checkpoint: Checkpoint,
    settings: Settings,
    *,
    name: str,
    threads: int | None = None,
    backend: str = "cpu",
    cache_type: str = "f16",
    progress: Progress | None = None,
) -> Report:
    """Measure a model.

    Args:
        checkpoint: the model.
        settings: what to measure.
        name: what the model is called.
        threads: threads that compute; None chooses.
        backend: one of `nextn.backends.BACKENDS`. Limits are measured for "cpu" only.
        cache_type: how keys and values are kept, one of `nextn.backends.CACHE_TYPES`.
        progress: told how many tokens are done.

    Raises:
        RequestError: impossible settings, or a case that does not fit the model's context.
        MemoryLimitError: the model does not fit into memory with these settings.
        FileFormatError, UnsupportedModelError: as `nextn.load`.
    """
    from nextn.models import load_model_plan
    from nextn.plan import fuse

    cases = settings.cases(checkpoint.integer("{arch}.context_length", minimum=1))
    plan = fuse(load_model_plan(checkpoint))
    lengths = lengths_needed(cases)
    block_count = blocks_needed(lengths)
    need = memory_need(
        checkpoint,
        plan,
        backend=backend,
        block_count=block_count,
        max_rows=_MAX_ROWS,
        logits_rows=max(len(lengths), settings.rows),
        cache_type=cache_type,
    )
    available = available_memory()
    if available is not None and need.total > available:
        raise MemoryLimitError(
            f"{checkpoint.path}: needs {need.total / 1e6:,.0f} MB of memory, "
            f"{need.cache / 1e6:,.0f} MB of them for the cache, but {available / 1e6:,.0f} MB are "
            "available; take less of -d, -b or -n, or a smaller model"
        )
    executor = create_executor(
        checkpoint,
        backend=backend,
        threads=threads,
        context_length=max(lengths),
        block_count=block_count,
        max_rows=_MAX_ROWS,
        cache_type=cache_type,
        plan=plan,
    )
    try:
        costs = StepCosts.of(checkpoint, plan, cache_type=cache_type)
        limits: Limits | None = None
        if backend == "cpu":
            limits = measure_limits(executor.threads, size=costs.weights + costs.output_weights)
        measured = measure(
            executor, cases, costs, repetitions=settings.repetitions, progress=progress
        )
    finally:
        executor.close()
    return Report(ModelLine.of(checkpoint, name, executor, cache_type), tuple(measured), limits)
