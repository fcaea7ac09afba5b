"""The native executor: one call per step, on all cores; see `native/` for what happens inside."""

from nextn.backends.cpu.executor import CpuExecutor

__all__ = ["CpuExecutor"]
