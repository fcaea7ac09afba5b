"""nextn: open-weight language models, several tokens per forward pass.

    import nextn

    with nextn.load() as model:
        for token in model.stream("The three primary colours are"):
            print(token.text, end="", flush=True)

Importing it is cheap; what a name needs is loaded when the name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nextn.errors import (
    EngineError,
    FileFormatError,
    MemoryLimitError,
    NextnError,
    RequestError,
    SourceError,
    TemplateError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from nextn.engine import Statistics, Token
    from nextn.engine.async_engine import AsyncEngine, AsyncTokenStream
    from nextn.engine.session import Generation, TokenStream
    from nextn.model import Model, load
    from nextn.sampling import SamplingParams

    __version__: str

__all__ = [
    "AsyncEngine",
    "AsyncTokenStream",
    "EngineError",
    "FileFormatError",
    "Generation",
    "MemoryLimitError",
    "Model",
    "NextnError",
    "RequestError",
    "SamplingParams",
    "SourceError",
    "Statistics",
    "TemplateError",
    "Token",
    "TokenStream",
    "UnsupportedModelError",
    "__version__",
    "load",
]

_MODULE_OF = {
    "AsyncEngine": "nextn.engine.async_engine",
    "AsyncTokenStream": "nextn.engine.async_engine",
    "Generation": "nextn.engine.session",
    "Model": "nextn.model",
    "SamplingParams": "nextn.sampling",
    "Statistics": "nextn.engine",
    "Token": "nextn.engine",
    "TokenStream": "nextn.engine.session",
    "load": "nextn.model",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("nextn")
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module 'nextn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All public names, loaded or not."""
    return sorted({*globals(), *__all__})
