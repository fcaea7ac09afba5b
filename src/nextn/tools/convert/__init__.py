"""From safetensors checkpoints to GGUF files."""

from nextn.tools.convert.encode import AUTOMATIC, ENCODINGS
from nextn.tools.convert.result import ConvertResult
from nextn.tools.convert.run import Conversion, Part, convert, open_conversion

__all__ = [
    "AUTOMATIC",
    "ENCODINGS",
    "Conversion",
    "ConvertResult",
    "Part",
    "convert",
    "open_conversion",
]
