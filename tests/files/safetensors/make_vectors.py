"""Makes the stored vectors of test_quantised_vectors.py with the programs that define the layouts.

    python -m tests.files.safetensors.make_vectors

Needs torch, safetensors, compressed-tensors and transformers. Each file of data/ holds the tensors
of one module, and what those programs decode them to, in float32, as the tensor "expected".
"""

from __future__ import annotations

from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.entrypoints.convert.converters.autoawq import AutoAWQConverter
from compressed_tensors.entrypoints.convert.converters.fp8block_dequantizer import (
    FP8BlockDequantizer,
)
from compressed_tensors.entrypoints.convert.converters.modelopt_nvfp4 import ModelOptNvfp4Converter
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

DATA = Path(__file__).parent / "data"
BLOCK = (8, 16)

Tensors = dict[str, torch.Tensor]


def scheme(**arguments: object) -> QuantizationScheme:
    return QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**arguments))


def save(case: str, tensors: Tensors, expected: torch.Tensor, prefix: str = "layer.") -> None:
    named = {f"{prefix}{name}": value.contiguous() for name, value in tensors.items()}
    save_file({**named, "expected": expected.float().contiguous()}, DATA / f"{case}.safetensors")
    print(case, tuple(expected.shape))


def float8(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator).mul(20).to(torch.float8_e4m3fn)


def all_float8() -> None:
    codes = torch.arange(256, dtype=torch.uint8)
    for name, dtype in (
        ("e4m3", torch.float8_e4m3fn),
        ("e5m2", torch.float8_e5m2),
        ("e8m0", torch.float8_e8m0fnu),
    ):
        values = codes.view(dtype)
        save(f"float8_{name}", {"codes": values}, values.float(), prefix="")


def fp8_blocks(generator: torch.Generator) -> None:
    weight, scale = float8(generator, 20, 40), torch.rand(3, 3, generator=generator)
    converter = FP8BlockDequantizer(targets=["layer"], weight_block_size=BLOCK, dtype=torch.float32)
    decoded = converter.process({"layer.weight": weight, "layer.weight_scale_inv": scale})
    save("fp8_blocks", {"weight": weight, "weight_scale_inv": scale}, decoded["layer.weight"])


def by_format(case: str, name: str, tensors: Tensors, the_scheme: QuantizationScheme) -> None:
    decoded = BaseCompressor.get_value_from_registry(name).decompress(dict(tensors), the_scheme)
    save(case, tensors, decoded["weight"])


def naive(generator: torch.Generator) -> None:
    by_format(
        "fp8_per_output",
        "float-quantized",
        {"weight": float8(generator, 6, 16), "weight_scale": torch.rand(6, 1, generator=generator)},
        scheme(num_bits=8, type="float", strategy="channel"),
    )
    by_format(
        "fp8_per_tensor",
        "float-quantized",
        {"weight": float8(generator, 6, 16), "weight_scale": torch.rand(1, generator=generator)},
        scheme(num_bits=8, type="float", strategy="tensor"),
    )
    codes = torch.randint(-128, 128, (6, 16), generator=generator, dtype=torch.int8)
    by_format(
        "int8_per_output",
        "int-quantized",
        {"weight": codes, "weight_scale": torch.rand(6, 1, generator=generator)},
        scheme(num_bits=8, type="int", strategy="channel"),
    )


def packed(generator: torch.Generator) -> None:
    for bits, symmetric, inputs in ((4, True, 72), (4, False, 64), (8, True, 64), (8, False, 68)):
        group = inputs // 4
        arguments = {"num_bits": bits, "type": "int", "symmetric": symmetric}
        the_scheme = scheme(strategy="group", group_size=group, **arguments)
        weight = torch.randn(12, inputs, generator=generator)
        state = {"weight": weight, "weight_scale": torch.rand(12, 4, generator=generator) * 0.3}
        if not symmetric:
            low = -(1 << bits - 1)
            zeros = torch.randint(low, -low, (12, 4), generator=generator, dtype=torch.int8)
            state["weight_zero_point"] = zeros
        compressor = BaseCompressor.get_value_from_registry("pack-quantized")
        stored = compressor.compress(state, the_scheme)
        decoded = compressor.decompress(dict(stored), the_scheme)
        kind = "symmetric" if symmetric else "zeros"
        save(f"packed_{bits}_bit_{kind}", stored, decoded["weight"])


def decode_nvfp4(tensors: Tensors, the_scheme: QuantizationScheme) -> torch.Tensor:
    """What the library's own decompression does, but in float32 in place of bfloat16."""
    packed = tensors["weight_packed"]
    codes = unpack_fp4_from_uint8(packed, len(packed), 2 * packed.shape[1], dtype=torch.float32)
    return dequantize(
        x_q=codes,
        scale=tensors["weight_scale"].float(),
        args=the_scheme.weights,
        global_scale=tensors["weight_global_scale"],
        dtype=torch.float32,
    )


def fp4(generator: torch.Generator) -> None:
    codes = torch.randint(0, 256, (4, 32), generator=generator, dtype=torch.uint8)
    scales = float8(generator, 4, 4).float().abs().to(torch.float8_e4m3fn)
    nvfp4 = scheme(num_bits=4, type="float", strategy="tensor_group", group_size=16)
    tensors = {"weight_packed": codes, "weight_scale": scales}
    tensors["weight_global_scale"] = torch.tensor([345.0])
    save("nvfp4_compressed_tensors", tensors, decode_nvfp4(tensors, nvfp4))
    # ModelOpt's layout is decoded by way of the program that converts it to the other.
    stored = {"weight": codes, "weight_scale": scales, "weight_scale_2": torch.tensor(0.0071)}
    stored["input_scale"] = torch.tensor(0.5)
    converter = ModelOptNvfp4Converter(targets=["re:.*layer.*"])
    other = converter.process({f"layer.{name}": value for name, value in stored.items()})
    parts = {name.removeprefix("layer."): value for name, value in other.items()}
    parts["weight_global_scale"] = parts["weight_global_scale"].reshape(1)
    save("nvfp4_modelopt", stored, decode_nvfp4(parts, nvfp4))
    powers = torch.randint(110, 140, (4, 2), generator=generator, dtype=torch.uint8)
    mxfp4 = scheme(num_bits=4, type="float", strategy="group", group_size=32)
    tensors = {"weight_packed": codes, "weight_scale": powers}
    by_format("mxfp4_compressed_tensors", "mxfp4-pack-quantized", tensors, mxfp4)
    blocks = torch.randint(0, 256, (2, 6, 3, 16), generator=generator, dtype=torch.uint8)
    powers = torch.randint(110, 140, (2, 6, 3), generator=generator, dtype=torch.uint8)
    decoded = convert_moe_packed_tensors(blocks, powers, dtype=torch.float32)
    # transformers keeps these experts as inputs by outputs.
    save(
        "mxfp4_gpt_oss",
        {"gate_up_proj_blocks": blocks, "gate_up_proj_scales": powers},
        decoded.transpose(1, 2),
    )


def awq(generator: torch.Generator) -> None:
    def words(*shape: int) -> torch.Tensor:
        return torch.randint(-(2**31), 2**31 - 1, shape, generator=generator, dtype=torch.int32)

    stored = {"qweight": words(64, 3), "qzeros": words(4, 3)}
    stored["scales"] = torch.rand(4, 24, generator=generator).half()
    converter = AutoAWQConverter(group_size=16)
    parts = converter.process({f"layer.{name}": value for name, value in stored.items()})
    parts = {name.removeprefix("layer."): value for name, value in parts.items()}
    parts["weight_scale"] = parts["weight_scale"].float()
    the_scheme = scheme(num_bits=4, type="int", symmetric=False, strategy="group", group_size=16)
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    save("awq", stored, compressor.decompress(parts, the_scheme)["weight"])


def main() -> None:
    """Write data/*.safetensors."""
    DATA.mkdir(exist_ok=True)
    all_float8()
    for make in (fp8_blocks, naive, packed, fp4, awq):
        make(torch.Generator().manual_seed(7))


if __name__ == "__main__":
    main()
