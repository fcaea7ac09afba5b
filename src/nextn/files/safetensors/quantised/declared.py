"""What a checkpoint's configuration says about its quantisation.

It only settles what the tensors leave open: which tensors are quantised, and how, is read from the
tensors themselves. Lists of modules that were left out are often wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

from nextn.files.safetensors.config import Config
from nextn.files.safetensors.folder import SafetensorsFolder

_SECTION = "quantization_config"
# Files of their own, of ModelOpt and of older versions of GPTQ and AWQ.
_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")


@dataclass(frozen=True, slots=True)
class Declared:
    """The settings that matter.

    Attributes:
        method: name of the method, such as "fp8" or "gptq"; None if nothing is declared.
        block: outputs and inputs that share a scale.
        gptq_zeros_less_one: whether GPTQ zeros are stored less one.
        awq_version: how AWQ weights are packed; "gemm" unless the file says something else.
    """

    method: str | None = None
    block: tuple[int, int] | None = None
    gptq_zeros_less_one: bool = True
    awq_version: str = "gemm"


def read_declared(folder: SafetensorsFolder) -> Declared:
    """Read what the folder declares.

    Raises:
        SourceError: a file that cannot be read.
        FileFormatError: a setting of the wrong type.
    """
    section = _find(folder)
    if section is None:
        return Declared()
    method = "quant_method" if "quant_method" in section else "quant_algo"
    sizes = section.items("weight_block_size")
    block = None
    if sizes:
        first, *others = sizes
        if not isinstance(first, int) or len(others) != 1 or not isinstance(others[0], int):
            section.fail("weight_block_size", "is not a list of two sizes")
        if min(first, others[0]) < 1:
            section.fail("weight_block_size", "holds a size below 1")
        block = first, others[0]
    return Declared(
        section.string(method) if method in section else "unnamed",
        block,
        section.string("checkpoint_format", "gptq") != "gptq_v2",
        section.string("version", "gemm").lower() if method == "quant_method" else "gemm",
    )


def _find(folder: SafetensorsFolder) -> Config | None:
    config = folder.json("config.json")
    if config is not None:
        for place in (config, config.section("text_config")):
            if _SECTION in place:
                return place.section(_SECTION)
    for name in _FILES:
        found = folder.json(name)
        if found is not None:
            return found.section("quantization") if "quantization" in found else found
    return None
