"""The file types that a model can be quantised to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class FileType:
    """A mix of block formats.

    Attributes:
        name: as the community calls it.
        id: what `general.file_type` says.
        default: the block format of most matrices.
    """

    name: str
    id: int
    default: str

    @property
    def is_float(self) -> bool:
        """Whether it holds plain numbers."""
        return self.default in ("F32", "F16", "BF16")


FILE_TYPES: Final[dict[str, FileType]] = {
    each.name: each
    for each in (
        FileType("Q8_0", 7, "Q8_0"),
        FileType("Q6_K", 18, "Q6_K"),
        FileType("Q5_K_M", 17, "Q5_K"),
        FileType("Q5_K_S", 16, "Q5_K"),
        FileType("Q4_K_M", 15, "Q4_K"),
        FileType("Q4_K_S", 14, "Q4_K"),
        FileType("Q5_1", 9, "Q5_1"),
        FileType("Q5_0", 8, "Q5_0"),
        FileType("Q4_1", 3, "Q4_1"),
        FileType("Q4_0", 2, "Q4_0"),
        FileType("IQ4_NL", 25, "IQ4_NL"),
        FileType("NVFP4", 39, "NVFP4"),
        FileType("MXFP4", 38, "MXFP4"),
        FileType("F16", 1, "F16"),
        FileType("BF16", 32, "BF16"),
        FileType("F32", 0, "F32"),
    )
}
"""By name. llama.cpp calls 38 MXFP4_MOE: of models with experts, only these become MXFP4, and all
else Q8_0."""

FALLBACKS: Final = {
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
    "NVFP4": "IQ4_NL",
}
"""What rows that are not whole blocks of 256 (or 64) get instead, as llama.cpp does it."""

LAST_FALLBACK: Final = "F16"
"""What rows get that are no multiples of 32 either."""
