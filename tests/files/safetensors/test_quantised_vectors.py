"""Every layout against what the program that defines it decodes; see make_vectors.py."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nextn.files.safetensors import open_safetensors
from nextn.files.safetensors.quantised import find_weights

DATA = Path(__file__).parent / "data"
# What is stored -> the layout that is found.
LAYOUTS = {
    "fp8_blocks": "FP8 in blocks of 8 x 16",
    "fp8_per_output": "FP8 per output",
    "fp8_per_tensor": "FP8 per tensor",
    "int8_per_output": "INT8 per output",
    "packed_4_bit_symmetric": "packed 4-bit integers, symmetric",
    "packed_4_bit_zeros": "packed 4-bit integers, with zeros",
    "packed_8_bit_symmetric": "packed 8-bit integers, symmetric",
    "packed_8_bit_zeros": "packed 8-bit integers, with zeros",
    "nvfp4_compressed_tensors": "NVFP4 (compressed-tensors)",
    "nvfp4_modelopt": "NVFP4 (ModelOpt)",
    "mxfp4_compressed_tensors": "MXFP4",
    "mxfp4_gpt_oss": "MXFP4",
    "awq": "AWQ 4-bit",
}


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "e8m0"])
def test_every_byte_of_the_8_bit_floats_means_what_torch_says(name: str) -> None:
    with open_safetensors(DATA / f"float8_{name}.safetensors") as file:
        got, expected = file.tensors["codes"].decode(), file.tensors["expected"].decode()
    np.testing.assert_array_equal(got.view(np.uint32) << 1 == 0, expected == 0)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("case", LAYOUTS)
def test_a_layout_is_found_and_decoded(case: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes((DATA / f"{case}.safetensors").read_bytes())
    config = {"quantization_config": {"quant_method": "x", "weight_block_size": [8, 16]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_safetensors(tmp_path) as folder:
        expected = folder.tensors["expected"].decode()
        weights = find_weights(folder)
        del weights.by_name["expected"]
        assert len(weights.by_name) == 1
        name, weight = weights.by_name.popitem()
        assert name == ("layer.gate_up_proj" if case == "mxfp4_gpt_oss" else "layer.weight")
        assert weight.layout == LAYOUTS[case]
        assert weight.is_quantised
        assert weight.shape == expected.shape
        got = weight.decode()
        assert got.dtype == np.float32
        # ModelOpt's vector went through the reciprocal of its scale.
        if case == "nvfp4_modelopt":
            np.testing.assert_allclose(got, expected, rtol=3e-7)
        else:
            np.testing.assert_array_equal(got, expected)
        for start, stop in ((0, 1), (1, expected.shape[0]), (1, 2)):
            np.testing.assert_array_equal(weight.rows(start, stop), got[start:stop])
