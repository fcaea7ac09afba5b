"""Which stored tensors make up which weight, and in which layout: decided by what is on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from nextn.errors import UnsupportedModelError, shown
from nextn.files.safetensors.folder import SafetensorsFolder
from nextn.files.safetensors.quantised.awq import AwqWeight
from nextn.files.safetensors.quantised.declared import Declared, read_declared
from nextn.files.safetensors.quantised.gptq import GptqWeight
from nextn.files.safetensors.quantised.mxfp4 import Mxfp4Weight
from nextn.files.safetensors.quantised.nvfp4 import Nvfp4Weight
from nextn.files.safetensors.quantised.packed_integers import PackedIntegerWeight
from nextn.files.safetensors.quantised.scaled import ScaledWeight
from nextn.files.safetensors.quantised.weight import DenseWeight, Weight
from nextn.files.safetensors.tensor import StoredTensor

# Roles of tensors beside ".weight" and ".bias"; ".scale" only counts beside 8-bit floats.
_ROLES = (
    *("qweight", "qzeros", "scales", "g_idx"),
    *("weight_packed", "weight_shape", "weight_zero_point", "weight_g_idx"),
    *("weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale", "scale"),
)
# What another engine multiplies activations or its cache by, to quantise them as well. nextn keeps
# them in their full range, so that these change nothing.
ACTIVATION_ROLES = (
    *("input_scale", "input_global_scale", "input_scale_2", "input_zero_point", "output_scale"),
    *("k_scale", "v_scale", "q_scale", "prob_output_scale", "activation_scale"),
)
_BLOCKS, _BLOCK_SCALES = "_blocks", "_scales"
_BITSANDBYTES = ".quant_state.bitsandbytes__"
_CODE_TYPES = ("F8_E4M3", "F8_E5M2", "I8", "U8")


@dataclass(slots=True)
class Weights:
    """The weights of a checkpoint.

    Attributes:
        by_name: every weight, dense or quantised, by the name that the model has for it; with them
            whatever else is a plain tensor, such as biases.
        activation_scales: names of tensors that only serve to quantise activations.
        declared: what the configuration says about quantisation.
    """

    by_name: dict[str, Weight] = field(default_factory=dict)
    activation_scales: list[str] = field(default_factory=list)
    declared: Declared = field(default_factory=Declared)

    def layouts(self) -> dict[str, int]:
        """Bytes by layout, the most first."""
        sizes: dict[str, int] = {}
        for weight in self.by_name.values():
            sizes[weight.layout] = sizes.get(weight.layout, 0) + weight.nbytes
        return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def find_weights(folder: SafetensorsFolder) -> Weights:
    """Find the weights of a checkpoint; only shapes and types are looked at.

    Raises:
        FileFormatError: parts that do not fit together, or codes without their scale.
        UnsupportedModelError: a layout that nextn does not know.
    """
    found = Weights(declared=read_declared(folder))
    groups: dict[str, dict[str, StoredTensor]] = {}
    plain: list[StoredTensor] = []
    for name, tensor in folder.tensors.items():
        if _BITSANDBYTES in name:
            raise UnsupportedModelError(
                f"{tensor.path}: tensor {name}: is of bitsandbytes, whose layouts nextn does not "
                "read; take the checkpoint that it was made from"
            )
        stem, _, role = name.rpartition(".")
        if role in ACTIVATION_ROLES:
            found.activation_scales.append(name)
        elif stem and role in _ROLES and _is_part(role, stem, folder.tensors):
            groups.setdefault(stem, {})[role] = tensor
        elif (stacked := _stack_of(name, folder.tensors)) is not None:
            groups.setdefault(stacked, {})[name.removeprefix(stacked)] = tensor
        else:
            plain.append(tensor)
    for tensor in plain:
        stem = tensor.name.removesuffix(".weight")
        if stem in groups and tensor.name.endswith(".weight"):
            groups[stem]["weight"] = tensor
        else:
            _check_plain(tensor)
            found.by_name[tensor.name] = DenseWeight(tensor)
    for stem, parts in groups.items():
        weight = _combine(stem, parts, found.declared)
        if weight.name in found.by_name:
            next(iter(parts.values())).fail(f"is a part of {weight.name}, which occurs twice")
        found.by_name[weight.name] = weight
    return found


def _is_part(role: str, stem: str, tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether a name that ends like a part is one; "scale" and "scales" may mean anything."""
    if role == "scale":
        weight = tensors.get(f"{stem}.weight")
        return weight is not None and weight.dtype.name in _CODE_TYPES
    return role != "scales" or f"{stem}.qweight" in tensors


def _stack_of(name: str, tensors: Mapping[str, StoredTensor]) -> str | None:
    """The weight that a tensor is a part of as gpt-oss stores stacks of experts."""
    for ending, other in ((_BLOCKS, _BLOCK_SCALES), (_BLOCK_SCALES, _BLOCKS)):
        stem = name.removesuffix(ending)
        if stem != name and stem + other in tensors:
            return stem
    return None


def _check_plain(tensor: StoredTensor) -> None:
    """Refuse codes without a scale: their values would be off by a factor that nobody knows."""
    if tensor.name.endswith(".weight") and tensor.dtype.name in _CODE_TYPES:
        tensor.fail(f"holds codes ({tensor.dtype.name}), but the checkpoint has no scale for them")


class _Parts:
    """The parts of one weight, taken one by one."""

    def __init__(self, stem: str, parts: dict[str, StoredTensor]) -> None:
        self.name = f"{stem}.weight"
        self.any = next(iter(parts.values()))
        self._left = dict(parts)

    def __contains__(self, role: str) -> bool:
        return role in self._left

    def take(self, role: str) -> StoredTensor:
        """A part that must be there."""
        part = self._left.pop(role, None)
        if part is None:
            self.any.fail(f"needs {self.name.removesuffix('weight')}{role}, which is missing")
        return part

    def maybe(self, role: str) -> StoredTensor | None:
        """A part that may be missing."""
        return self._left.pop(role, None)

    def check_all_taken(self, layout: str) -> None:
        """Refuse a part that means nothing in the layout."""
        for part in self._left.values():
            raise UnsupportedModelError(
                f"{part.path}: tensor {part.name}: not known beside {self.name} as {layout}, and "
                "the weight would be wrong without it"
            )


def _combine(stem: str, group: dict[str, StoredTensor], declared: Declared) -> Weight:
    if _BLOCKS in group:
        return Mxfp4Weight(stem, group[_BLOCKS], group[_BLOCK_SCALES])
    parts = _Parts(stem, group)
    for role, build in _BUILDERS.items():
        if role in parts:
            weight = build(parts, declared)
            parts.check_all_taken(weight.layout)
            return weight
    raise parts.any.error(
        f"is a part of {parts.name}, which is missing; the checkpoint is incomplete"
    )


def _from_qweight(parts: _Parts, declared: Declared) -> Weight:
    """GPTQ packs the codes along the inputs, AWQ along the outputs: the scales tell them apart."""
    codes, zeros, scales = parts.take("qweight"), parts.take("qzeros"), parts.take("scales")
    if codes.shape[-1:] == scales.shape[-1:]:
        return GptqWeight(
            parts.name,
            codes,
            zeros,
            scales,
            parts.maybe("g_idx"),
            stores_zeros_less_one=declared.gptq_zeros_less_one,
        )
    if declared.method == "awq" and declared.awq_version != "gemm":
        raise UnsupportedModelError(
            f"{codes.path}: tensor {codes.name}: is AWQ of the version "
            f"{shown(declared.awq_version)}; nextn reads gemm"
        )
    return AwqWeight(parts.name, codes, zeros, scales)


def _from_packed(parts: _Parts, _declared: Declared) -> Weight:
    codes, scales = parts.take("weight_packed"), parts.take("weight_scale")
    if codes.dtype.name == "I32":
        shape = parts.take("weight_shape")
        zeros, index = parts.maybe("weight_zero_point"), parts.maybe("weight_g_idx")
        return PackedIntegerWeight(parts.name, codes, scales, shape, zeros, index)
    parts.maybe("weight_shape")
    if "weight_global_scale" in parts:
        tensor_scale = parts.take("weight_global_scale")
        return Nvfp4Weight(parts.name, codes, scales, tensor_scale, divides=True)
    return Mxfp4Weight(parts.name, codes, scales)


def _from_weight(parts: _Parts, declared: Declared) -> Weight:
    codes = parts.take("weight")
    if codes.dtype.name == "U8":
        scales = parts.take("weight_scale")
        if "weight_scale_2" in parts:
            tensor_scale = parts.take("weight_scale_2")
            return Nvfp4Weight(parts.name, codes, scales, tensor_scale, divides=False)
        return Mxfp4Weight(parts.name, codes, scales)
    for role in ("weight_scale_inv", "weight_scale", "scale"):
        if role in parts:
            return ScaledWeight(parts.name, codes, parts.take(role), declared.block)
    raise codes.error("has parts of a quantised weight beside it, but no scale")


_BUILDERS: dict[str, Callable[[_Parts, Declared], Weight]] = {
    "qweight": _from_qweight,
    "weight_packed": _from_packed,
    "weight": _from_weight,
}
