"""From safetensors checkpoints to GGUF files."""

from nextn.tools.convert.encode import AUTOMATIC, ENCODINGS
from nextn.tools.convert.result import ConvertResult
from nextn.tools.convert.run import Part, convert

__all__ = ["AUTOMATIC", "ENCODINGS", "ConvertResult", "Part", "convert"]
