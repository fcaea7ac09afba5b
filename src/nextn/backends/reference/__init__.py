"""The NumPy executor: float32, written to be read. It defines what each operation means."""

from nextn.backends.reference.executor import ReferenceExecutor

__all__ = ["ReferenceExecutor"]
