"""GGUF files: a reader that checks every length, offset, shape and type before it is used."""

from nextn.files.gguf.cursor import HeaderContinuesError
from nextn.files.gguf.header import Header, TensorEntry, read_header
from nextn.files.gguf.parts import Part, open_parts
from nextn.files.gguf.values import EncodedValue, LazyStrings, MetadataValue

__all__ = [
    "EncodedValue",
    "Header",
    "HeaderContinuesError",
    "LazyStrings",
    "MetadataValue",
    "Part",
    "TensorEntry",
    "open_parts",
    "read_header",
]
