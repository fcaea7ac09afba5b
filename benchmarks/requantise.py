"""Makes a file of another block format from a model's, with the quantiser of llama.cpp.

For `same_text.py` and timings; the text of a file that was quantised twice is worse. Rows that the
format's blocks do not fill get another format, which llama.cpp chooses.

    python benchmarks/requantise.py smollm2 smollm2-iq4_xs.gguf --type IQ4_XS
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from pathlib import Path

import llama_cpp

from nextn.files import open_checkpoint
from nextn.files.sources import resolve

FILE_TYPES = {
    "Q2_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q2_K,
    "Q3_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q3_K_S,
    "Q4_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S,
    "Q5_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_S,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q5_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_0,
    "Q5_1": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_1,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "IQ4_NL": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "IQ4_XS": llama_cpp.LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "MXFP4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "NVFP4": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
}
_BY_NAME = {"MXFP4": 39, "NVFP4": 40}
"""Formats that no file type gives to the matrices of a dense model: they are asked for by name."""


def requantise(source: Path, target: Path, type_name: str) -> None:
    """Write `target`: all matrices of `source` in one format.

    Raises:
        RuntimeError: llama.cpp refuses.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[type_name]
    parameters.allow_requantize = True
    parameters.pure = True
    if type_name in _BY_NAME:
        overrides = (llama_cpp.llama_cpp.llama_model_tensor_override * 2)()
        overrides[0].pattern = rb"blk\..*_(q|k|v|output|gate|up|down)\.weight"
        overrides[0].type = _BY_NAME[type_name]
        parameters.tt_overrides = overrides
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(parameters)
    )
    if status:
        raise RuntimeError(f"llama.cpp cannot make {type_name} of {source}: status {status}")


def main() -> None:
    """Write one file, and say which formats are in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("path", type=Path)
    parser.add_argument("--type", choices=FILE_TYPES, required=True)
    arguments = parser.parse_args()
    requantise(resolve(arguments.model).path, arguments.path, arguments.type)
    counts: dict[str, int] = {}
    with open_checkpoint(arguments.path) as checkpoint:
        for tensor in checkpoint.tensors.values():
            counts[tensor.block_type.name] = counts.get(tensor.block_type.name, 0) + 1
    print(", ".join(f"{count} x {name}" for name, count in sorted(counts.items())))
    if arguments.type not in counts:
        sys.exit(f"no tensor is in {arguments.type}")


if __name__ == "__main__":
    main()
