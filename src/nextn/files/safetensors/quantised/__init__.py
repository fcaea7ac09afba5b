"""Quantised weights of safetensors checkpoints, one module for each layout.

Whatever a weight is stored as, it is read as float32: see `Weight`.
"""

from nextn.files.safetensors.quantised.declared import Declared
from nextn.files.safetensors.quantised.layouts import Weights, find_weights
from nextn.files.safetensors.quantised.weight import DenseWeight, Weight

__all__ = ["Declared", "DenseWeight", "Weight", "Weights", "find_weights"]
