"""Layouts against loops over single elements, written from the formats' descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nextn.errors import FileFormatError, NextnError, UnsupportedModelError
from nextn.files.safetensors import open_safetensors
from nextn.files.safetensors.quantised import Weights, find_weights
from nextn.files.safetensors.quantised.packing import unpack_words
from tests.support.safetensors_bytes import Given, bfloat16, to_bfloat16, write_folder

ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def weights_of(folder: Path, tensors: dict[str, Given], quantisation: Any = None) -> Weights:
    config = {} if quantisation is None else {"quantization_config": quantisation}
    return find_weights(open_safetensors(write_folder(folder, tensors, config)))


def words(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-(2**31), 2**31, shape).astype(np.int32)


def gptq_tensors(
    rng: np.random.Generator, bits: int, inputs: int, outputs: int, groups: int
) -> dict[str, Given]:
    return {
        "a.qweight": words(rng, inputs * bits // 32, outputs),
        "a.qzeros": words(rng, groups, outputs * bits // 32),
        "a.scales": rng.uniform(0.01, 0.1, (groups, outputs)).astype(np.float16),
        "a.g_idx": (np.arange(inputs) * groups // inputs).astype(np.int32),
    }


def gptq_loop(tensors: dict[str, Any], bits: int, added: int) -> np.ndarray:
    """w[n, k] = scale * (code - zero), one element after the other."""
    qweight, qzeros = tensors["a.qweight"].tolist(), tensors["a.qzeros"].tolist()
    scales, groups = tensors["a.scales"], tensors["a.g_idx"]
    per_word, mask = 32 // bits, (1 << bits) - 1
    outputs, inputs = scales.shape[1], len(groups)
    result = np.empty((outputs, inputs), np.float32)
    for n in range(outputs):
        for k in range(inputs):
            code = (qweight[k // per_word][n] >> bits * (k % per_word)) & mask
            stored = (qzeros[groups[k]][n // per_word] >> bits * (n % per_word)) & mask
            zero = (stored + added) % (mask + 1)
            result[n, k] = np.float32(scales[groups[k], n]) * np.float32(code - zero)
    return result


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["neighbours", "by activation", "no index"])
def test_gptq(bits: int, version: int, order: str, tmp_path: Path) -> None:
    tensors = gptq_tensors(np.random.default_rng(bits), bits, 64, 32, 4)
    index = tensors["a.g_idx"]
    assert isinstance(index, np.ndarray)
    if order == "by activation":
        np.random.default_rng(1).shuffle(index)
    expected = gptq_loop(tensors, bits, 1 if version == 1 else 0)
    if order == "no index":
        del tensors["a.g_idx"]
    declared = {"quant_method": "gptq", "bits": bits}
    if version == 2:
        declared["checkpoint_format"] = "gptq_v2"
    weight = weights_of(tmp_path, tensors, declared).by_name["a.weight"]
    assert weight.layout == f"GPTQ {bits}-bit (version {version})"
    np.testing.assert_array_equal(weight.decode(), expected)
    np.testing.assert_array_equal(weight.rows(5, 13), expected[5:13])


def test_the_zero_of_a_symmetric_gptq_weight_is_the_middle_code(tmp_path: Path) -> None:
    # A published value: version 1 stores 7 for the zero 8, in words 0x77777777.
    tensors: dict[str, Given] = {
        "a.qweight": np.full((1, 8), 0x76543210, np.int32),
        "a.qzeros": np.full((1, 1), 0x77777777, np.int32),
        "a.scales": np.full((1, 8), 0.5, np.float16),
    }
    weight = weights_of(tmp_path, tensors).by_name["a.weight"]
    np.testing.assert_array_equal(weight.decode(), np.tile((np.arange(8) - 8) / 2, (8, 1)))


def test_awq_in_the_order_of_its_words(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    inputs, outputs, groups = 32, 24, 2
    codes, zeros = (rng.integers(0, 16, (n, outputs)) for n in (inputs, groups))
    scales = rng.uniform(0.01, 0.1, (groups, outputs)).astype(np.float16)

    def pack(values: np.ndarray) -> np.ndarray:
        packed = np.zeros((len(values), outputs // 8), np.uint32)
        for row in range(len(values)):
            for word in range(outputs // 8):
                for slot, output in enumerate(ORDER):
                    nibble = np.uint32(values[row, 8 * word + output])
                    packed[row, word] |= nibble << np.uint32(4 * slot)
        return packed.view(np.int32)

    tensors = {"a.qweight": pack(codes), "a.qzeros": pack(zeros), "a.scales": scales}
    weight = weights_of(tmp_path, tensors, {"quant_method": "awq"}).by_name["a.weight"]
    assert weight.layout == "AWQ 4-bit"
    expected = np.empty((outputs, inputs), np.float32)
    for n in range(outputs):
        for k in range(inputs):
            difference = codes[k, n] - zeros[k // 16, n]
            expected[n, k] = np.float32(scales[k // 16, n]) * np.float32(difference)
    np.testing.assert_array_equal(weight.decode(), expected)
    np.testing.assert_array_equal(weight.rows(3, 21), expected[3:21])


@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (200, 300), (129, 1), (1, 257)])
def test_fp8_in_blocks_of_128_that_are_cut_off_at_the_edges(
    rows: int, columns: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 127, (rows, columns)).astype(np.uint8)
    shape = (-(-rows // 128), -(-columns // 128))
    scales = rng.uniform(0.5, 2, shape).astype(np.float32)
    tensors: dict[str, Given] = {
        "a.weight": ("F8_E4M3", codes),
        "a.weight_scale_inv": bfloat16(scales),
    }
    weight = weights_of(tmp_path, tensors).by_name["a.weight"]
    got = weight.decode()
    scales = (to_bfloat16(scales).astype(np.uint32) << 16).view(np.float32)
    for row in range(0, rows, 7):
        for column in range(0, columns, 5):
            exponent, mantissa = int(codes[row, column]) >> 3, int(codes[row, column]) & 7
            value = mantissa / 512 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
            expected = np.float32(value) * scales[row // 128, column // 128]
            assert got[row, column] == expected
    np.testing.assert_array_equal(weight.rows(rows // 2, rows), got[rows // 2 :])


@given(
    bits=st.sampled_from([2, 4, 8]),
    values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=5),
)
def test_words_are_unpacked_from_the_lowest_bits_up(bits: int, values: list[int]) -> None:
    got = unpack_words(np.array([values], np.int32), bits)
    expected = [value >> bits * n & (1 << bits) - 1 for value in values for n in range(32 // bits)]
    assert got.tolist() == [expected]


def test_what_is_on_disk_counts_and_not_what_is_declared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dense = rng.standard_normal((4, 8)).astype(np.float32)
    tensors = {"mtp.fc.weight": dense, **gptq_tensors(rng, 4, 64, 32, 2)}
    declared = {"quant_method": "fp8", "modules_to_not_convert": []}
    weights = weights_of(tmp_path, tensors, declared)
    assert weights.declared.method == "fp8"
    assert not weights.by_name["mtp.fc.weight"].is_quantised
    np.testing.assert_array_equal(weights.by_name["mtp.fc.weight"].decode(), dense)
    assert weights.by_name["a.weight"].layout == "GPTQ 4-bit (version 1)"


def test_scales_of_activations_are_told_apart(tmp_path: Path) -> None:
    one = np.ones(1, np.float32)
    tensors: dict[str, Given] = {
        "a.weight": ("F8_E4M3", np.ones((2, 2), np.uint8)),
        "a.weight_scale": one,
        "a.input_scale": one,
        "a.k_scale": one,
        "b.bias": one,
    }
    weights = weights_of(tmp_path, tensors)
    assert sorted(weights.by_name) == ["a.weight", "b.bias"]
    assert sorted(weights.activation_scales) == ["a.input_scale", "a.k_scale"]


F8: Given = ("F8_E4M3", np.ones((16, 32), np.uint8))
U8 = np.ones((16, 16), np.uint8)
ONE = np.ones(1, np.float32)
GROUPS: Given = ("F8_E4M3", np.ones((16, 2), np.uint8))
# What is wrong -> the tensors, and words of the error.
WRONG: dict[str, tuple[dict[str, Given], str]] = {
    "codes without a scale": ({"a.weight": F8}, "a.weight.*no scale"),
    "bytes without a scale": ({"a.weight": U8}, "a.weight.*no scale"),
    "a scale without codes": ({"a.weight_scale": ONE}, "a.weight_scale: is a part of a.weight"),
    "plain weight with a scale": (
        {"a.weight": np.ones((2, 2), np.float32), "a.weight_scale": ONE},
        "a.weight: holds F32, but must hold F8_E4M3",
    ),
    "a scale of another shape": (
        {"a.weight": F8, "a.weight_scale": np.ones((3, 3), np.float32)},
        "a.weight_scale: has the shape.*fits no known layout",
    ),
    "scales of integers": (
        {"a.weight": F8, "a.weight_scale": np.ones((16, 1), np.int32)},
        "a.weight_scale: holds I32",
    ),
    "zeros beside 8-bit integers": (
        {
            "a.weight": np.ones((16, 32), np.int8),
            "a.weight_scale": ONE,
            "a.weight_zero_point": np.ones((16, 1), np.int8),
        },
        "a.weight_zero_point: not known",
    ),
    "NVFP4 scales of other groups": (
        {"a.weight_packed": U8, "a.weight_scale": F8, "a.weight_global_scale": ONE},
        "a.weight_scale: has the shape",
    ),
    "NVFP4 without groups": (
        {
            "a.weight_packed": np.ones((16, 17), np.uint8),
            "a.weight_scale": GROUPS,
            "a.weight_global_scale": ONE,
        },
        "not whole groups of 16",
    ),
    "both scales of NVFP4": (
        {
            "a.weight_packed": U8,
            "a.weight_scale": GROUPS,
            "a.weight_global_scale": ONE,
            "a.weight_scale_2": ONE,
        },
        "a.weight_scale_2: not known beside a.weight as NVFP4",
    ),
    "MXFP4 stack of other groups": (
        {"a_blocks": np.ones((2, 3, 4, 8), np.uint8), "a_scales": np.ones((2, 3, 4), np.uint8)},
        "a_blocks: has the shape",
    ),
    "MXFP4 stack and scales": (
        {"a_blocks": np.ones((2, 3, 4, 16), np.uint8), "a_scales": np.ones((2, 4, 4), np.uint8)},
        "a_scales: has the shape",
    ),
    "GPTQ without zeros": (
        {"a.qweight": np.ones((8, 32), np.int32), "a.scales": np.ones((1, 32), np.float16)},
        "a.qzeros, which is missing",
    ),
    "GPTQ of 3 bits": (
        {
            "a.qweight": np.ones((6, 32), np.int32),
            "a.qzeros": np.ones((1, 3), np.int32),
            "a.scales": np.ones((1, 32), np.float16),
        },
        "a.qzeros: has the shape.*fits no known layout",
    ),
    "GPTQ groups that do not divide": (
        {
            "a.qweight": np.ones((8, 32), np.int32),
            "a.qzeros": np.ones((3, 4), np.int32),
            "a.scales": np.ones((3, 32), np.float16),
        },
        "3 groups",
    ),
    "both a weight and codes": (
        {
            **gptq_tensors(np.random.default_rng(0), 4, 64, 32, 2),
            "a.weight": np.ones((32, 64), np.float32),
        },
        "a.weight: not known beside a.weight as GPTQ",
    ),
    "packed integers without a shape": (
        {"a.weight_packed": np.ones((4, 2), np.int32), "a.weight_scale": np.ones((4, 1), "f4")},
        "a.weight_shape, which is missing",
    ),
    "a shape of other outputs": (
        {
            "a.weight_packed": np.ones((4, 2), np.int32),
            "a.weight_scale": np.ones((4, 1), np.float32),
            "a.weight_shape": np.array([5, 16]),
        },
        "a.weight_shape: says",
    ),
    "a shape of negative inputs": (
        {
            "a.weight_packed": np.ones((4, 2), np.int32),
            "a.weight_scale": np.ones((4, 1), np.float32),
            "a.weight_shape": np.array([4, -16]),
        },
        "a.weight_shape: says",
    ),
    "inputs of other words": (
        {
            "a.weight_packed": np.ones((4, 2), np.int32),
            "a.weight_scale": np.ones((4, 1), np.float32),
            "a.weight_shape": np.array([4, 2**62]),
        },
        "a.weight_packed: has the shape",
    ),
    "bitsandbytes": (
        {"a.weight.quant_state.bitsandbytes__nf4": np.ones(4, np.uint8)},
        "bitsandbytes",
    ),
    "AWQ in another version": (
        {
            "a.qweight": np.ones((8, 32), np.int32),
            "a.qzeros": np.ones((1, 4), np.int32),
            "a.scales": np.ones((2, 8), np.float16),
        },
        "'gemv'; nextn reads gemm",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_parts_that_do_not_fit_together_are_refused(what: str, tmp_path: Path) -> None:
    tensors, message = WRONG[what]
    declared = {"quant_method": "awq", "version": "gemv"} if what.startswith("AWQ") else None
    with pytest.raises((FileFormatError, UnsupportedModelError), match=message):
        weights_of(tmp_path, tensors, declared)


def test_indices_outside_of_the_groups_are_refused(tmp_path: Path) -> None:
    for number, wrong in enumerate((-1, 2)):
        tensors = gptq_tensors(np.random.default_rng(0), 4, 64, 32, 2)
        tensors["a.g_idx"] = np.full(64, wrong, np.int32)
        weight = weights_of(tmp_path / str(number), tensors).by_name["a.weight"]
        with pytest.raises(NextnError, match=r"a\.g_idx: names groups outside of 0 to 1"):
            weight.decode()


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_a_scale_of_a_tensor_that_cannot_be_is_refused(value: float, tmp_path: Path) -> None:
    tensors: dict[str, Given] = {
        "a.weight_packed": U8,
        "a.weight_scale": GROUPS,
        "a.weight_global_scale": np.array([value], np.float32),
    }
    weight = weights_of(tmp_path, tensors).by_name["a.weight"]
    with pytest.raises(NextnError, match=r"a\.weight_global_scale: is .*finite and above zero"):
        weight.decode()


def test_a_power_that_is_no_number_is_refused(tmp_path: Path) -> None:
    powers = np.full((16, 1), 255, np.uint8)
    tensors: dict[str, Given] = {"a.weight_packed": U8, "a.weight_scale": powers}
    with pytest.raises(NextnError, match=r"a\.weight_scale: holds the scale 255"):
        weights_of(tmp_path, tensors).by_name["a.weight"].decode()
