"""What a checkpoint says about its tokenizer, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nextn.errors import FileFormatError, UnsupportedModelError, shown

if TYPE_CHECKING:
    from nextn.files.checkpoint import Checkpoint

_MODELS = ("gpt2", "llama")
_PREFIX = "tokenizer.ggml."
_LAST_TOKEN_TYPE = 6
# Pre-tokenizers of models that were trained with a token at the beginning, although files with
# byte-level BPE need not say so.
_BEGINS_WITH_BOS = (
    *("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
    *("jina-v5-nano", "tekken", "chameleon"),
)
_FILL_IN_MIDDLE = ("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep")


@dataclass(frozen=True, slots=True)
class TokenizerData:
    """The `tokenizer.ggml.*` keys of a GGUF file.

    Attributes:
        model: "gpt2" (byte-level BPE) or "llama" (SentencePiece with scores).
        pre: name of the pre-tokenizer.
        tokens: text of each token, in the notation of `model`.
        scores: float32 [tokens], or None.
        token_types: int32 [tokens], or None; 1 normal, 2 unknown, 3 control, 4 user-defined,
            5 unused, 6 byte.
        merges: "left right" pairs of byte-level BPE, best first.
        fim_ids: ids of the tokens for filling in text, by name (`fim_pad` ...).
        path: the file, for errors.
    """

    model: str
    pre: str
    tokens: list[str]
    scores: NDArray[np.float32] | None
    token_types: NDArray[np.int32] | None
    merges: list[str]
    bos_id: int | None
    eos_id: int | None
    eot_id: int | None
    eom_id: int | None
    unknown_id: int | None
    pad_id: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    fim_ids: dict[str, int]
    path: Path

    @classmethod
    def read(cls, checkpoint: Checkpoint) -> TokenizerData:
        """Read and check the keys.

        Raises:
            FileFormatError: a missing key, an array of the wrong type or length, a token that is
                not UTF-8, an unknown token type, an id outside the vocabulary.
            UnsupportedModelError: a tokenizer model that nextn does not know.
        """
        model = checkpoint.string(_PREFIX + "model")
        if model not in _MODELS:
            known = ", ".join(_MODELS)
            raise UnsupportedModelError(
                f"{checkpoint.path}: {_PREFIX}model: {shown(model)} is not supported; "
                f"nextn knows {known}"
            )
        tokens = checkpoint.strings(_PREFIX + "tokens")
        if not tokens:
            raise FileFormatError(checkpoint.path, _PREFIX + "tokens", "is empty")
        merges = checkpoint.strings(_PREFIX + "merges") if model == "gpt2" else []
        scores, types = None, None
        if model == "llama" or _PREFIX + "scores" in checkpoint.metadata:
            scores = checkpoint.numbers(_PREFIX + "scores", length=len(tokens))
        if _PREFIX + "token_type" in checkpoint.metadata:
            types = checkpoint.integers(
                _PREFIX + "token_type", length=len(tokens), minimum=0, maximum=_LAST_TOKEN_TYPE
            )

        def token_id(name: str) -> int | None:
            key = f"{_PREFIX}{name}_token_id"
            if key not in checkpoint.metadata:
                return None
            return checkpoint.integer(key, minimum=0, maximum=len(tokens) - 1)

        fill_in = {name: token_id(name) for name in _FILL_IN_MIDDLE}
        pre = checkpoint.string(_PREFIX + "pre", "default")
        is_llama = model == "llama"
        begins_with_bos = is_llama or pre in _BEGINS_WITH_BOS
        return cls(
            model=model,
            pre=pre,
            tokens=tokens,
            scores=None if scores is None else scores.astype(np.float32),
            token_types=None if types is None else types.astype(np.int32),
            merges=merges,
            bos_id=token_id("bos"),
            eos_id=token_id("eos"),
            eot_id=token_id("eot"),
            eom_id=token_id("eom"),
            unknown_id=token_id("unknown"),
            pad_id=token_id("padding"),
            add_bos=checkpoint.boolean(_PREFIX + "add_bos_token", begins_with_bos),
            add_eos=checkpoint.boolean(_PREFIX + "add_eos_token", False),
            add_space_prefix=checkpoint.boolean(_PREFIX + "add_space_prefix", is_llama),
            fim_ids={name: token for name, token in fill_in.items() if token is not None},
            path=checkpoint.path,
        )
