"""The tiny random models whose logits are stored in data/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
TOKENS = [(7 * i * i + 3 * i + 11) % 280 for i in range(40)]

_SHAPE: dict[str, Any] = {
    "hidden": 64,
    "layers": 3,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "ffn": 96,
    "vocab": 320,
    "tied": False,
    "seed": 5,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _SHAPE,
    "qwen2": {**_SHAPE, "tied": True},
    "qwen3": {**_SHAPE, "head_dim": 32},
    # Seven layers: the sixth is global, and the window is shorter than the text.
    "gemma3": {**_SHAPE, "layers": 7, "head_dim": 32, "tied": True, "sliding_window": 12},
}
