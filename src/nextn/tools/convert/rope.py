"""Rotary settings of config.json as GGUF files have them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from nextn.errors import UnsupportedModelError, shown
from nextn.files.gguf.writer import NewValue
from nextn.files.safetensors import Config
from nextn.tools.convert.families import Dimensions, FamilyMap

_NONE = ("default", "none")
# What `nextn.models.rotary` and llama.cpp take where a file does not say it.
_YARN_USUAL = {"beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 0.0}


def rope_metadata(family: FamilyMap, config: Config, sizes: Dimensions) -> dict[str, NewValue]:
    """The keys about rotary embeddings.

    Raises:
        FileFormatError: a setting that is missing or cannot be.
        UnsupportedModelError: a kind of scaling that nextn does not know.
    """
    arch = family.architecture
    section = _section(config)
    # Of settings by kind of layer, those of global layers are the file's; local ones have none.
    usual = family.defaults.get("rope_theta")
    base = section.value("rope_theta") or config.value("rope_theta") or usual
    if base is None:
        config.fail("rope_theta", "is missing")
    holder = section if "rope_theta" in section else config
    number = holder.number("rope_theta", float(usual) if isinstance(usual, int | float) else 0.0)
    if number < 1:
        holder.fail("rope_theta", f"is {number}, but must be at least 1")
    partial = section.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if partial != 1:
        raise UnsupportedModelError(
            f"{config.path}: partial_rotary_factor: is {partial}; nextn's {arch} turns whole heads"
        )
    keys: dict[str, NewValue] = {f"{arch}.rope.freq_base": number}
    if arch == "llama":
        keys["llama.rope.dimension_count"] = sizes.head_width
    kind = _kind(section)
    if kind == "linear":
        keys[f"{arch}.rope.scaling.type"] = "linear"
        keys[f"{arch}.rope.scaling.factor"] = section.number("factor", minimum=1.0)
    elif kind == "yarn":
        keys |= _yarn(arch, config, section)
    elif kind not in (*_NONE, "llama3"):
        raise UnsupportedModelError(
            f"{config.path}: {section.field('rope_type')}: {shown(kind)} is not supported; nextn "
            "converts default, linear, llama3, yarn"
        )
    return keys


def rope_factors(
    family: FamilyMap, config: Config, sizes: Dimensions
) -> NDArray[np.float32] | None:
    """What frequencies are divided by, for the tensor `rope_freqs.weight`; None without it.

    Llama 3.1 divides slow frequencies by a factor, keeps fast ones, and goes from one to the other
    in between (its `rope_type` "llama3").

    Returns:
        float32 [head width / 2].

    Raises:
        FileFormatError: a setting that is missing or cannot be.
    """
    section = _section(config)
    if _kind(section) != "llama3":
        return None
    factor = section.number("factor", minimum=1.0)
    low, high = section.number("low_freq_factor"), section.number("high_freq_factor")
    if not 0 < low < high:
        section.fail("low_freq_factor", f"{low} is not between 0 and high_freq_factor, {high}")
    original = section.integer("original_max_position_embeddings", minimum=1)
    base = rope_metadata(family, config, sizes)[f"{family.architecture}.rope.freq_base"]
    width = sizes.head_width
    assert isinstance(base, float)
    frequencies = base ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    turns = original * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - kept) / factor + kept)).astype(np.float32)


def _section(config: Config) -> Config:
    """Where the settings stand: there are an old and a new place, and one by kind of layer."""
    if "rope_parameters" not in config:
        return config.section("rope_scaling")
    parameters = config.section("rope_parameters")
    if "full_attention" not in parameters:
        return parameters
    local = parameters.section("sliding_attention")
    if _kind(local) not in _NONE or local.number("rope_theta", 10000.0) != 10000.0:
        raise UnsupportedModelError(
            f"{config.path}: {local.field('rope_theta')}: nextn's gemma3 has local layers with a "
            "base of 10000, not scaled"
        )
    return parameters.section("full_attention")


def _kind(section: Config) -> str:
    return section.string("rope_type", section.string("type", "default"))


def _yarn(arch: str, config: Config, section: Config) -> dict[str, NewValue]:
    factor = section.number("factor", minimum=1.0)
    usual = {**_YARN_USUAL, "attention_factor": 0.1 * math.log(factor) + 1}
    for key, value in usual.items():
        if key in section and not math.isclose(section.number(key), value, rel_tol=1e-6):
            raise UnsupportedModelError(
                f"{config.path}: {section.field(key)}: nextn's yarn takes {value:g} only"
            )
    original = section.integer(
        "original_max_position_embeddings",
        config.integer("max_position_embeddings", minimum=1),
        minimum=1,
    )
    return {
        f"{arch}.rope.scaling.type": "yarn",
        f"{arch}.rope.scaling.factor": factor,
        f"{arch}.rope.scaling.original_context_length": original,
    }
