"""Executors of plans: `reference` says what is right, `cpu` is fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nextn.backends.base import BLOCK_TOKENS, CACHE_TYPES, Executor, Rows, check_rows
from nextn.backends.drafting import Chains, Drafted
from nextn.errors import RequestError
from nextn.files import Checkpoint

if TYPE_CHECKING:
    from nextn.plan import Plan

__all__ = [
    "BACKENDS",
    "BLOCK_TOKENS",
    "CACHE_TYPES",
    "Chains",
    "Drafted",
    "Executor",
    "Rows",
    "check_cache_type",
    "check_rows",
    "create_executor",
]

BACKENDS = ("cpu", "reference")


def create_executor(
    checkpoint: Checkpoint,
    *,
    backend: str = "cpu",
    threads: int | None = None,
    context_length: int,
    block_count: int,
    max_rows: int = 512,
    cache_type: str = "f16",
    plan: Plan | None = None,
    head: Plan | None = None,
) -> Executor:
    """Load a checkpoint's weights into an executor.

    Args:
        checkpoint: the model; with a head, the tensors of both.
        backend: one of `BACKENDS`.
        threads: threads that compute; by default one for each physical core that the process may
            use.
        context_length: most positions of a sequence.
        block_count: blocks of BLOCK_TOKENS positions in the key/value cache.
        max_rows: most rows of one step.
        cache_type: one of `CACHE_TYPES`; `reference` keeps float32 whatever it is.
        plan: the fused plan of the checkpoint, if the caller has it already.
        head: the fused plan of a prediction head over the same cache as `plan`.

    Raises:
        RequestError: a backend or cache type that does not exist, or an impossible number of
            threads.
        UnsupportedModelError, FileFormatError: see `nextn.models.load_model_plan`.
    """
    from nextn.backends.cpu.threads import check_threads
    from nextn.models import load_model_plan
    from nextn.plan import fuse

    if threads is not None:
        check_threads(threads)  # also where they are not used: a mistake is a mistake
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        raise RequestError(f"backend: {backend!r} does not exist; nextn has {known}")
    check_cache_type(cache_type)
    if plan is None:
        plan = fuse(load_model_plan(checkpoint))
    if backend == "reference":
        from nextn.backends.reference import ReferenceExecutor

        return ReferenceExecutor(
            checkpoint,
            plan,
            head=head,
            context_length=context_length,
            block_count=block_count,
            max_rows=max_rows,
        )
    from nextn.backends.cpu import CpuExecutor

    return CpuExecutor(
        checkpoint,
        plan,
        head=head,
        threads=threads,
        context_length=context_length,
        block_count=block_count,
        max_rows=max_rows,
        cache_type=cache_type,
    )


def check_cache_type(cache_type: str) -> None:
    """Check the name of a cache type.

    Raises:
        RequestError: there is no such type.
    """
    if cache_type not in CACHE_TYPES:
        known = ", ".join(CACHE_TYPES)
        raise RequestError(f"cache_type: {cache_type!r} does not exist; nextn has {known}")
