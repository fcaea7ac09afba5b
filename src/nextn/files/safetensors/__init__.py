"""Safetensors checkpoints: files, and folders as the Hugging Face hub has them."""

from nextn.files.safetensors.config import Config
from nextn.files.safetensors.dtypes import DTYPES, Dtype
from nextn.files.safetensors.folder import SafetensorsFolder, is_safetensors, open_safetensors
from nextn.files.safetensors.tensor import StoredTensor

__all__ = [
    "DTYPES",
    "Config",
    "Dtype",
    "SafetensorsFolder",
    "StoredTensor",
    "is_safetensors",
    "open_safetensors",
]
