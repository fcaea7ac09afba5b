"""Checkpoints: one view of a model's files, whatever they came as.

A file is data, not trust: everything in it is checked before it is used.
"""

from nextn.files.block_formats import BLOCK_TYPES, I32, BlockType, decode
from nextn.files.checkpoint import Checkpoint, check_vocabulary, open_checkpoint
from nextn.files.tensor import Tensor
from nextn.files.tokenizer_data import TokenizerData

__all__ = [
    "BLOCK_TYPES",
    "I32",
    "BlockType",
    "Checkpoint",
    "Tensor",
    "TokenizerData",
    "check_vocabulary",
    "decode",
    "open_checkpoint",
]
