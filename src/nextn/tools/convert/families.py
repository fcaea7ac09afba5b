"""How checkpoints of each family are called and stored on the Hugging Face hub, as data.

The names on the right are those of GGUF files, which `nextn.models` asks for. What a family's
checkpoint may say that its description in `nextn.models` cannot do stands in `fixed`: such a model
would be converted into one that writes other text, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nextn.files.safetensors.json_files import JsonValue

_BLOCK: Mapping[str, str] = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_HEAD_NORMS: Mapping[str, str] = {
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}

SHAPES: Mapping[str, tuple[str, ...]] = {
    "token_embd": ("vocabulary", "hidden"),
    "output_norm": ("hidden",),
    "output": ("vocabulary", "hidden"),
    "attn_norm": ("hidden",),
    "attn_q": ("query", "hidden"),
    "attn_k": ("key", "hidden"),
    "attn_v": ("key", "hidden"),
    "attn_output": ("hidden", "query"),
    "attn_q_norm": ("head_width",),
    "attn_k_norm": ("head_width",),
    "post_attention_norm": ("hidden",),
    "ffn_norm": ("hidden",),
    "ffn_gate": ("feed_forward", "hidden"),
    "ffn_up": ("feed_forward", "hidden"),
    "ffn_down": ("hidden", "feed_forward"),
    "post_ffw_norm": ("hidden",),
    "nextn.eh_proj": ("hidden", "two_hidden"),
    "nextn.enorm": ("hidden",),
    "nextn.hnorm": ("hidden",),
    "nextn.shared_head_norm": ("hidden",),
    "nextn.shared_head_head": ("vocabulary", "hidden"),
    "nextn.embed_tokens": ("vocabulary", "hidden"),
}
"""Shape of each weight by its role, in the fields of `Dimensions`. A bias has the first of it."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The sizes that a configuration declares."""

    blocks: int
    hidden: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward: int
    vocabulary: int

    @property
    def query(self) -> int:
        """Outputs of the query matrix."""
        return self.heads * self.head_width

    @property
    def key(self) -> int:
        """Outputs of the key and value matrices."""
        return self.kv_heads * self.head_width

    @property
    def two_hidden(self) -> int:
        """Inputs of a head's projection."""
        return 2 * self.hidden

    def shape(self, role: str) -> tuple[int, ...]:
        """Shape of the weight with a role of `SHAPES`."""
        return tuple(int(getattr(self, name)) for name in SHAPES[role])


@dataclass(frozen=True, slots=True)
class FamilyMap:
    """A family's checkpoints.

    Attributes:
        architecture: `general.architecture` of the GGUF file.
        model_types: `model_type` in config.json.
        block: name of a module in a block -> role in the GGUF file.
        biases: roles that must have a bias.
        optional_biases: roles that may have one.
        permuted: roles whose rows GGUF files have in another order: the two elements of a rotary
            pair are neighbours there, and half a head apart in checkpoints.
        norm_offset: what is added to the weights of norms.
        tied: whether the output matrix is the embedding, unless the configuration says otherwise.
        writes_head_width: whether the file says the width of a head even where it is the usual one.
        defaults: what settings mean that configurations leave out.
        fixed: settings that must have one of these values, if they are there.
    """

    architecture: str
    model_types: tuple[str, ...]
    block: Mapping[str, str] = field(default_factory=lambda: _BLOCK)
    biases: frozenset[str] = frozenset()
    optional_biases: frozenset[str] = frozenset()
    permuted: frozenset[str] = frozenset()
    norm_offset: float = 0.0
    tied: bool = False
    writes_head_width: bool = False
    defaults: Mapping[str, JsonValue] = field(default_factory=dict)
    fixed: Mapping[str, tuple[JsonValue, ...]] = field(default_factory=dict)


_SILU: Mapping[str, tuple[JsonValue, ...]] = {"hidden_act": ("silu", "swish")}
_NO_EXPERTS: Mapping[str, tuple[JsonValue, ...]] = {
    "num_local_experts": (0,),
    "num_experts": (0,),
    "n_routed_experts": (0,),
}
_QKV = frozenset(("attn_q", "attn_k", "attn_v"))

FAMILIES: tuple[FamilyMap, ...] = (
    FamilyMap(
        "llama",
        ("llama", "mistral"),
        optional_biases=_QKV | {"attn_output"},
        permuted=frozenset(("attn_q", "attn_k")),
        defaults={"rope_theta": 10000.0},
        fixed={**_SILU, **_NO_EXPERTS, "mlp_bias": (False,), "attn_logit_softcapping": ()},
    ),
    FamilyMap(
        "qwen2",
        ("qwen2",),
        biases=_QKV,
        fixed={**_SILU, **_NO_EXPERTS},
    ),
    FamilyMap(
        "qwen3",
        ("qwen3",),
        block={**_BLOCK, **_HEAD_NORMS},
        writes_head_width=True,
        defaults={"head_dim": 128},
        fixed={**_SILU, **_NO_EXPERTS, "attention_bias": (False,)},
    ),
    FamilyMap(
        "gemma3",
        ("gemma3_text", "gemma3"),
        block={
            **_BLOCK,
            **_HEAD_NORMS,
            "post_attention_layernorm": "post_attention_norm",
            "pre_feedforward_layernorm": "ffn_norm",
            "post_feedforward_layernorm": "post_ffw_norm",
        },
        norm_offset=1.0,
        tied=True,
        writes_head_width=True,
        # Published configurations say little; these are what the library takes.
        defaults={
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 131072,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10000.0,
            "sliding_window": 4096,
        },
        fixed={
            "hidden_activation": ("gelu_pytorch_tanh",),
            "attention_bias": (False,),
            "attn_logit_softcapping": (),
            "final_logit_softcapping": (),
            "use_bidirectional_attention": (False,),
            "rope_local_base_freq": (10000.0, 10000),
            "sliding_window_pattern": (6,),
            "_sliding_window_pattern": (6,),
        },
    ),
)
"""Every family that can be converted."""

LARGEST_GEMMA_BLOCKS = 62
"""Blocks of the one Gemma 3 whose attention is scaled by another width than that of a head."""
