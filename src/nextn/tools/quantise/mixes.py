"""Which block format each matrix of a mix gets, by its role: the rules of llama.cpp's quantiser.

Some matrices suffer more from coarse steps than others: those of values in attention, those that
lead back into the residual stream, the output. In the K mixes the first and the last eighth of the
blocks, and every third between them, get finer formats there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nextn.errors import FileFormatError
from nextn.tools.quantise.file_types import FileType

TOKEN_EMBEDDING: Final = "token_embd.weight"
OUTPUT: Final = "output.weight"

_NEVER: Final = re.compile(
    r"_norm\.weight$|ffn_gate_inp(_shexp)?\.weight$|ffn_gate_tid2eid|^altup|^laurel|\.altup|"
    r"\.laurel|per_layer_model_proj|position_embd|token_types|ssm_conv1d|shortconv\.conv|"
    r"indexer\.[kq]_proj|time_mix_(first|decay_w[12]|[wvag][012]|lerp_fused)|attn_rel_b|patch_embd"
)
_BLOCK: Final = re.compile(r"^blk\.(\d+)\.")
_VALUES: Final = re.compile(r"\.attn_(v|qkv|kv_b)\.weight$")
_KEYS: Final = re.compile(r"\.attn_k\.weight$")
_ATTENTION_OUTPUT: Final = re.compile(r"\.attn_output\.weight$")
_DOWN: Final = re.compile(r"\.ffn_down(_exps|_shexp)?\.weight$")
_EXPERTS: Final = re.compile(r"_exps\.weight$")
_FEW_EXPERTS: Final = 8
_GROUPED: Final = 4


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the mixes depend on.

    Attributes:
        blocks: all blocks, those of a head included.
        experts: of each block; 0 for dense models.
        queries_per_key: query heads that share a key head.
    """

    blocks: int
    experts: int = 0
    queries_per_key: int = 1

    @classmethod
    def of(cls, path: Path, architecture: str, metadata: Mapping[str, object]) -> ModelShape:
        """The shape that a model declares.

        Raises:
            FileFormatError: it does not say how many blocks it has.
        """

        def number(key: str) -> int:
            value = metadata.get(f"{architecture}.{key}")
            return value if isinstance(value, int) and not isinstance(value, bool) else 0

        blocks, keys = number("block_count"), number("attention.head_count_kv")
        if blocks < 1:
            raise FileFormatError(path, f"{architecture}.block_count", "is missing or impossible")
        return cls(
            blocks,
            number("expert_count"),
            number("attention.head_count") // keys if keys else 1,
        )


def is_quantised(name: str, shape: tuple[int, ...]) -> bool:
    """Whether quantisers change a tensor: a matrix that is not small and delicate."""
    return name.endswith("weight") and len(shape) >= 2 and not _NEVER.search(name)


def visiting_order(names: Iterable[str]) -> list[str]:
    """The order in which matrices are counted: by block, then by name."""

    def place(name: str) -> tuple[int, str]:
        match = _BLOCK.match(name)
        return (int(match[1]) if match else -1), name

    return sorted(names, key=place)


def mixed_types(
    names: Iterable[str], model: ModelShape, file_type: FileType, *, with_importance: bool
) -> dict[str, str]:
    """The block format of each matrix, before rows that do not fit are looked at.

    Args:
        names: all tensors of the model that are quantised.
        model: its shape.
        file_type: the mix.
        with_importance: whether there is an importance matrix.
    """
    names = visiting_order(names)
    tied = OUTPUT not in names
    values = [name for name in names if _VALUES.search(name)]
    rule = _RULES.get(file_type.name)
    found: dict[str, str] = {}
    value_index = down_index = 0
    for name in names:
        found[name] = file_type.default
        if name == OUTPUT or (name == TOKEN_EMBEDDING and tied):
            found[name] = _output_type(file_type)
        elif _beside_4_bit_floats(name, file_type, model):
            found[name] = "Q8_0"
        elif _VALUES.search(name):
            if model.experts == _FEW_EXPERTS and not file_type.is_float:
                found[name] = "Q8_0"
            elif rule is not None:
                found[name] = rule.values(value_index, len(values), model) or file_type.default
            value_index += 1
        elif _KEYS.search(name) and model.experts == _FEW_EXPERTS and not file_type.is_float:
            found[name] = "Q8_0"
        elif _ATTENTION_OUTPUT.search(name):
            if model.experts == _FEW_EXPERTS and file_type.default == "Q4_K":
                found[name] = "Q5_K"
        elif _DOWN.search(name):
            block = _BLOCK.match(name)
            index = int(block[1]) if model.experts > 1 and block else down_index
            if rule is not None:
                chosen = rule.down(index, model.blocks, with_importance)
                found[name] = chosen or file_type.default
            down_index += 1
    return found


def _beside_4_bit_floats(name: str, file_type: FileType, model: ModelShape) -> bool:
    """Whether a matrix stays at 8 bits: outside of blocks, and for MXFP4 beside experts."""
    if file_type.name not in ("NVFP4", "MXFP4"):
        return False
    beside_experts = file_type.name == "MXFP4" and model.experts > 0
    return not _BLOCK.match(name) or (beside_experts and not _EXPERTS.search(name))


def _output_type(file_type: FileType) -> str:
    if file_type.is_float:
        return file_type.default
    return "Q8_0" if file_type.name in ("Q8_0", "NVFP4", "MXFP4") else "Q6_K"


@dataclass(frozen=True, slots=True)
class _Rule:
    """Formats of two roles; None stands for the mix's default.

    Attributes:
        values: of the i-th of n matrices that make values of attention.
        down: of the i-th matrix that leads out of a feed-forward part, of n blocks, with or without
            importance.
    """

    values: Callable[[int, int, ModelShape], str | None]
    down: Callable[[int, int, bool], str | None]


def _more(i: int, n: int) -> bool:
    """Whether a mix spends more on the i-th of n."""
    eighth = n // 8
    return i < eighth or i >= 7 * n // 8 or (i - eighth) % 3 == 2


def _first_four(i: int, n: int, model: ModelShape) -> str | None:
    return "Q5_K" if i < 4 else None


def _finer(i: int, n: int, model: ModelShape) -> str | None:
    return "Q6_K" if _more(i, n) else None


def _finer_if_grouped(i: int, n: int, model: ModelShape) -> str | None:
    return "Q5_K" if model.queries_per_key >= _GROUPED else None


def _no_values(i: int, n: int, model: ModelShape) -> str | None:
    return None


_RULES: Final[dict[str, _Rule]] = {
    "Q4_K_S": _Rule(_first_four, lambda i, n, known: "Q5_K" if i < n // 8 else None),
    "Q4_K_M": _Rule(_finer, lambda i, n, known: "Q6_K" if _more(i, n) else None),
    "Q5_K_M": _Rule(_finer, lambda i, n, known: "Q6_K" if _more(i, n) else None),
    "IQ4_NL": _Rule(
        _finer_if_grouped, lambda i, n, known: "Q5_K" if i < n // 8 and not known else None
    ),
    "Q4_0": _Rule(_no_values, lambda i, n, known: "Q4_1" if i < n // 8 and known else None),
    "Q5_0": _Rule(_no_values, lambda i, n, known: "Q5_1" if i < n // 8 and known else None),
}
